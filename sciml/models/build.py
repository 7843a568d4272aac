"""A model from its configuration and the metadata of the data that it is for."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from datasets.build import check_target, instantiate
from datasets.normalize import Normalizer
from datasets.schema import Metadata, Source
from sciml.models.card import Card

BATCH = 64


@runtime_checkable
class Prepared(Protocol):
    """A model that takes something from the training data before it is trained, such as a basis."""

    def prepare(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """`pairs` are batches of the training split, input [b, c_in, *space] and target [b, c_out,
        *space], normalised, every sample once.
        """


def build_model(config: Mapping[str, Any], metadata: Metadata) -> nn.Module:
    """The model of `config`, built as Model(in_channels, out_channels, ndim, *, grid, ...).

    A constructor with an argument `frames` is also told which channels are frames of a window, and
    one with `numbers` how many of the last input channels are parameters, constant in space.
    Raises ValueError for what does not fit the data.
    """
    target, card = check_target(config["_target_"]), card_of(config)
    given = {"grid": metadata.grid}
    asked = inspect.signature(target.__init__).parameters
    if "frames" in asked:
        given["frames"] = metadata.frames
    if "numbers" in asked:
        given["numbers"] = _numbers(metadata)
    if metadata.ndim not in card.dimensions:
        raise ValueError(
            f"{target.__name__} is for {' or '.join(map(str, card.dimensions))} space "
            f"dimensions, the data have {metadata.ndim}; `python -m sciml.models` lists the others."
        )
    return instantiate(
        config,
        in_channels=metadata.in_channels,
        out_channels=metadata.out_channels,
        ndim=metadata.ndim,
        **given,
    )


def _numbers(metadata: Metadata) -> int:
    """The input fields at the end that are the parameters of a sample."""
    last = metadata.input_fields[len(metadata.input_fields) - len(metadata.parameters) :]
    return len(last) if tuple(f.name for f in last) == metadata.parameters else 0


def card_of(config: Mapping[str, Any]) -> Card:
    """What the catalogue says of a configured model: `card` of its class, or, of a class that is
    several architectures, what its `card_of` makes of the configuration.
    """
    target = check_target(config["_target_"])
    if not isinstance(getattr(target, "card", None), Card):
        raise ValueError(
            f"{config['_target_']} is not a model; `python -m sciml.models` lists what is."
        )
    return target.card_of(config) if hasattr(target, "card_of") else target.card


def parameter_count(model: nn.Module) -> int:
    """Trained real numbers: a complex one is two."""
    return sum(p.numel() * (1 + p.is_complex()) for p in model.parameters() if p.requires_grad)


def prepare_model(
    model: nn.Module, source: Source, input_normalizer: Normalizer, target_normalizer: Normalizer
) -> None:
    """Show a `Prepared` model the samples of `source`, which must be the training split."""
    if not isinstance(model, Prepared):
        return

    def pairs() -> Iterable[tuple[Tensor, Tensor]]:
        for start in range(0, len(source), BATCH):
            batch = source.__getitems__(range(start, min(start + BATCH, len(source))))
            yield input_normalizer(batch.input), target_normalizer(batch.target)

    model.prepare(pairs())
