"""The folder that a run leaves behind, as the report reads it.

metrics.json     status, error, test figures, times, memory, parameters     (required)
run.json         name, command, seed, versions, machine, git, data, model
config.yaml      the resolved configuration
metrics.csv      training and validation figures by epoch and step
earlier.csv      those of the run that this one continues
evaluation.npz   errors of all samples, fields of three (`sciml.evaluation.result`)
rollouts.npz     errors of roll-outs over time (`sciml.evaluation.rollout_errors`)
curvature.json   an analysis of curvature (`sciml.curvature.analyse`)
stream.json      what streamed in, and how it went (`sciml.runtime.stream_view`)
compare.json     figures of the runs that this one is compared with (`sciml.evaluation.comparison`)
influence.json   scores of training samples (`sciml.curvature.attribute`), figure in `influence`
"""

import csv
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sciml.evaluation.curvature import CURVATURE
from sciml.evaluation.influence import FIGURE, INFLUENCE
from sciml.evaluation.result import Evaluation
from sciml.evaluation.rollout_errors import RolloutErrors, load_rollouts

LOG, EARLIER, ROLLOUTS = "metrics.csv", "earlier.csv", "rollouts.npz"
STREAM, COMPARE = "stream.json", "compare.json"
Curves = dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]


@dataclass(frozen=True)
class Run:
    """The files of a run folder; what a run did not write is empty."""

    metrics: Mapping[str, Any]
    about: Mapping[str, Any]
    config: str
    curves: Curves
    evaluation: Evaluation | None
    rollouts: Mapping[str, RolloutErrors]
    curvature: Mapping[str, Any]
    influence: Mapping[str, Any]
    influence_figure: bytes
    stream: Mapping[str, Any]
    compare: Mapping[str, Any]


def read_run(folder: Path) -> Run:
    """Read the folder of a run that finished or failed."""
    if not (folder / "metrics.json").exists():
        raise ValueError(
            f"{folder} holds no metrics.json: it is not the folder of a run, or the run was killed "
            "before it could write its result."
        )
    about, config, evaluation = (folder / n for n in ("run.json", "config.yaml", "evaluation.npz"))
    figure = folder / Path(INFLUENCE).stem / f"{FIGURE}.png"
    return Run(
        json.loads((folder / "metrics.json").read_text()),
        _values(about),
        config.read_text() if config.exists() else "",
        read_curves(folder / EARLIER, folder / LOG),
        Evaluation.load(evaluation) if evaluation.exists() else None,
        load_rollouts(folder / ROLLOUTS) if (folder / ROLLOUTS).exists() else {},
        _values(folder / CURVATURE),
        _values(folder / INFLUENCE),
        figure.read_bytes() if figure.exists() else b"",
        _values(folder / STREAM),
        _values(folder / COMPARE),
    )


def _values(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


def read_curves(*paths: Path) -> Curves:
    """Curves from Lightning's `metrics.csv`: {"loss": {"train": (epoch, value), "val": ...}}.

    A column is `split/quantity`, possibly with `_epoch` or `_step` at the end, blank in rows of
    another kind. Values of one epoch are averaged; a column of epoch means wins over one of single
    steps. Epochs count from 1 here, from 0 in the file.
    """
    values = defaultdict(lambda: defaultdict(list))
    for path in filter(Path.exists, paths):
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for column, text in row.items():
                    if text and row["epoch"] and column.startswith(("train/", "val/")):
                        values[column][1 + int(float(row["epoch"]))].append(float(text))
    curves = defaultdict(dict)
    for column in sorted(values, key=lambda name: name.endswith("_step"), reverse=True):
        split, quantity = column.removesuffix("_step").removesuffix("_epoch").split("/", 1)
        epochs = np.array(sorted(values[column]))
        curves[quantity][split] = (epochs, np.array([np.mean(values[column][e]) for e in epochs]))
    return {quantity: dict(sorted(splits.items())) for quantity, splits in curves.items()}
