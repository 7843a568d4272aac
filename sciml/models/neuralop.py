"""The models of the neuraloperator library, as baselines."""

import contextlib
import importlib
import io
import os
from collections.abc import Mapping, Sequence
from types import MethodType
from typing import Any

from torch import Tensor, nn

from sciml.models.card import Card
from solvers.grid import Grid

PER_AXIS = ("n_modes", "max_n_modes")
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
    stands for all axes: `n_modes: 24` means (24, 24) in two dimensions, `uno_n_modes: [16, 8,
    16]` likewise layer by layer. Note that the library counts both signs: its 24 modes are
    `FNO(modes=12)`.

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
        arguments = {k: _per_axis(k, v, ndim) for k, v in settings.items()}
        modes = arguments.get("n_modes", ())
        layers = modes if modes and isinstance(modes[0], Sequence) else [modes] if modes else []
        if grid is not None and any(
            m > n for layer in layers for m, n in zip(layer, grid.shape, strict=True)
        ):
            raise ValueError(
                f"{architecture}: n_modes={modes} is more than the grid {grid.shape} holds; lower "
                "model.settings.n_modes or raise the resolution."
            )
        if architecture == "CODANO":  # one token per variable, no choice of channels
            if in_channels != out_channels:
                raise ValueError(
                    f"CODANO maps variables to themselves: {in_channels} input and {out_channels} "
                    "output channels differ."
                )
        else:
            arguments |= {"in_channels": in_channels, "out_channels": out_channels}
        with contextlib.redirect_stdout(io.StringIO()):  # UNO and CODANO print their settings
            model = _class(architecture)(**arguments)
        model.state_dict = MethodType(nn.Module.state_dict, model)
        model.load_state_dict = MethodType(nn.Module.load_state_dict, model)
        self.model, self.in_channels, self.out_channels = model, in_channels, out_channels

    def forward(self, a: Tensor) -> Tensor:
        if a.shape[1] != self.in_channels:
            raise ValueError(f"expected {self.in_channels} channels, got shape {tuple(a.shape)}.")
        u = self.model(a)
        expected = (len(a), self.out_channels, *a.shape[2:])
        if u.shape != expected:
            raise ValueError(
                f"{type(self.model).__name__} returned {tuple(u.shape)} instead of {expected}: its "
                "scalings do not fit this grid; choose a grid size that they divide."
            )
        return u


def _per_axis(name: str, value: Any, ndim: int) -> Any:
    """Repeat a number for every axis where the library wants one per axis."""
    if name in PER_AXIS and isinstance(value, int):
        return (value,) * ndim
    if name in PER_LAYER_AND_AXIS:
        return [v if isinstance(v, Sequence) else [v] * ndim for v in value]
    return value


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
