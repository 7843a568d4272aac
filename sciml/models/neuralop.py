"""The models of the neuraloperator library, as baselines."""

import contextlib
import importlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MethodType
from typing import Any

from torch import Tensor, nn

from sciml.models.card import Card
from solvers.grid import Grid

PER_AXIS = ("n_modes", "max_n_modes")
MODES = {"n_modes", "uno_n_modes"}
PER_LAYER_AND_AXIS = ("uno_n_modes", "uno_scalings", "per_layer_scaling_factors")
ELSEWHERE = {
    "GINO": "needs point clouds, which a Batch does not carry",
    "FNOGNO": "needs point clouds, which a Batch does not carry",
    "UQNO": "needs a trained model and a calibration set",
}


class Neuralop(nn.Module):
    """A field-to-field model of neuraloperator 2.0.0: FNO, TFNO, UNO, CODANO (and SFNO, LocalNO
    with the package torch-harmonics).

    `settings` are the keyword arguments of `neuralop.models.<architecture>`. One number of modes
    stands for all axes: `n_modes: 24` means (24, 24) in two dimensions; `uno_n_modes: [16, 8,
    16]`, and `n_modes: [16, 8]` of CODANO, likewise layer by layer. Note that the library counts
    both signs: its 24 modes are `FNO(modes=12)`.

    The library's `state_dict` adds an entry that is not a tensor, so that its models can neither
    be loaded inside another module nor from a safe checkpoint; here they can. What is not mended:
    on odd grids its transform shifts frequencies wrongly, it has no float64, and it takes every
    grid as x_i = i/n.
    """

    card = Card("Kossaifi et al. 2024, arXiv:2412.10354 (library)", boundaries="taken as periodic")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid | None = None,
        architecture: str,
        settings: Mapping[str, Any],
    ):
        super().__init__()
        twice = {"in_channels", "out_channels"} & settings.keys()
        if twice:
            raise ValueError(
                f"{architecture}: the data decide on settings.{min(twice)}; leave it out."
            )
        by_layer = PER_LAYER_AND_AXIS + (("n_modes",) if architecture == "CODANO" else ())
        arguments = {k: _per_axis(k, v, ndim, by_layer) for k, v in settings.items()}
        for name in arguments.keys() & MODES:
            _check_modes(f"{architecture}: model.settings.{name}", arguments[name], ndim, grid)
        if architecture == "CODANO":  # one token per variable, no choice of channels
            if in_channels != out_channels:
                raise ValueError(
                    f"CODANO maps variables to themselves: {in_channels} input and {out_channels} "
                    "output channels differ."
                )
        else:
            arguments |= {"in_channels": in_channels, "out_channels": out_channels}
        kind = _class(architecture)
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # UNO and CODANO print their settings
                model = kind(**arguments)
        except (ArithmeticError, AssertionError, LookupError, TypeError) as error:
            raise ValueError(
                f"neuralop refuses these settings of {architecture} with "
                f"{type(error).__name__}: {error or 'no message'}."
            ) from error
        model.state_dict = MethodType(nn.Module.state_dict, model)
        model.load_state_dict = MethodType(nn.Module.load_state_dict, model)
        self.model, self.ndim = model, ndim
        self.in_channels, self.out_channels = in_channels, out_channels

    @classmethod
    def card_of(cls, config: Mapping[str, Any]) -> Card:
        """CODANO's attention is not made for one dimension."""
        one_less = config.get("architecture") == "CODANO"
        return replace(cls.card, dimensions=(2, 3)) if one_less else cls.card

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self.model).__name__}: expected [batch, {self.in_channels} channels, "
                f"{self.ndim} axes of points], got shape {tuple(a.shape)}."
            )
        u = self.model(a)
        expected = (len(a), self.out_channels, *a.shape[2:])
        if u.shape != expected:
            raise ValueError(
                f"{type(self.model).__name__} returned {tuple(u.shape)} instead of {expected}: its "
                "scalings do not fit this grid; choose a grid size that they divide."
            )
        return u


def _per_axis(name: str, value: Any, ndim: int, by_layer: Sequence[str]) -> Any:
    """Repeat a number for every axis where the library wants one per axis."""
    if name in by_layer:
        return [v if isinstance(v, Sequence) else [v] * ndim for v in value]
    if name in PER_AXIS and isinstance(value, int):
        return (value,) * ndim
    return value


def _check_modes(name: str, modes: Sequence, ndim: int, grid: Grid | None) -> None:
    for layer in modes if modes and isinstance(modes[0], Sequence) else [modes]:
        if len(layer) != ndim or min(layer) < 1:
            raise ValueError(f"{name}={list(layer)} must be {ndim} numbers of at least 1.")
        if grid is not None and any(m > n for m, n in zip(layer, grid.shape, strict=True)):
            raise ValueError(
                f"{name}={list(layer)} is more than the grid {grid.shape} holds; lower it or raise "
                "the resolution."
            )


def _class(architecture: str) -> type[nn.Module]:
    if architecture in ELSEWHERE:
        raise ValueError(f"neuralop's {architecture} {ELSEWHERE[architecture]}.")
    os.environ.setdefault("WANDB_MODE", "disabled")  # the library imports wandb
    os.environ.setdefault("WANDB_SILENT", "true")
    models = importlib.import_module("neuralop.models")
    names = [n for n in ("FNO", "TFNO", "UNO", "CODANO", "SFNO", "LocalNO") if n in vars(models)]
    if architecture not in names:
        raise ValueError(f"neuralop has no field-to-field model {architecture!r}; it has {names}.")
    return vars(models)[architecture]
