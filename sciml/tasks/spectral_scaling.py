"""Unknowns for the fit of a spectral operator in which all modes count alike."""

import math

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from sciml.layers.spacetime import SpectralOutput
from solvers.grid import Grid


def scale(output: SpectralOutput, grid: Grid, alpha: float) -> None:
    """Make every parameter [*modes, ...] (alpha + |k|^2)^(1/2) times an unknown.

    k are the wavenumbers of the modes of space on a periodic grid. The H^-1 norm of a time
    derivative weighs a mode by (alpha + |k|^2)^(-1/2), so its Hessian in the unknowns is the same
    for all modes. The module's parameters are the unknowns until `unscale`.
    """
    squares = torch.tensor(alpha, dtype=torch.float64)
    for axis, m in zip(grid.axes, output.modes, strict=False):  # the last mode is that of time
        number = torch.cat((torch.arange(m), torch.arange(1, m + 1)))
        squares = squares.unsqueeze(-1) + (2 * math.pi / axis.length * number) ** 2
    for module in list(output.modules()):
        for name, parameter in list(module.named_parameters(recurse=False)):
            factor = squares.sqrt().reshape(*squares.shape, *[1] * (parameter.ndim - squares.ndim))
            parametrize.register_parametrization(module, name, _Factor(factor.to(parameter)))


def unscale(output: SpectralOutput) -> None:
    """Parameters again, with the values that the unknowns stood for."""
    for module in list(output.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):
                parametrize.remove_parametrizations(module, name)


class _Factor(nn.Module):
    """A parameter as a factor times the unknown."""

    def __init__(self, factor: Tensor):
        super().__init__()
        self.register_buffer("factor", factor)

    def forward(self, unknown: Tensor) -> Tensor:
        return self.factor * unknown

    def right_inverse(self, parameter: Tensor) -> Tensor:
        return parameter / self.factor
