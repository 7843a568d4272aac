"""The table of all models that a configuration can name."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hydra import compose, initialize_config_dir

from datasets.schema import Field, Metadata
from sciml.models.build import build_model, card_of, parameter_count
from sciml.models.card import Card
from solvers.grid import Grid

CONF = Path(__file__).parents[2] / "conf"
POINTS = {1: 256, 2: 64, 3: 32}


class Entry(NamedTuple):
    """One `model=...`: `parameters` counts real numbers, of a map of one field to another on a grid
    of `shape` points.
    """

    name: str
    card: Card
    shape: tuple[int, ...]
    parameters: int


def entries(ndim: int = 2) -> Iterator[Entry]:
    """The models of `conf/model`, each as it is built for `ndim` dimensions, or for the nearest
    number that it is for.
    """
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for path in sorted((CONF / "model").glob("*.yaml")):
            config = compose("config", [f"model={path.stem}", "name=model"]).model
            card = card_of(config)
            nearest = min(card.dimensions, key=lambda d: abs(d - ndim))
            shape = (POINTS[nearest],) * nearest
            field = (Field("u"),)
            model = build_model(config, Metadata("catalogue", field, field, Grid.box(shape)))
            yield Entry(path.stem, card, shape, parameter_count(model))
