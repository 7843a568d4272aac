"""Learnt functions of position."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.layers.dense_stack import Activation, DenseStack
from solvers.grid import Grid


class Trunk(nn.Module):
    """t(x) = act(DenseStack(z(x))) at points [..., ndim] in the grid's coordinates.

    The result has shape [..., features]. z is [cos, sin](2 pi k s), k = 1 .. `harmonics`, along a
    periodic axis, so that t is periodic with all derivatives, and along another 2 s - 1 and [cos,
    sin](pi k s), k = 1 .. `expansion`, s being the coordinate scaled to [0, 1]. Without expansion a
    net of smooth activations learns the short waves of its targets last. The last layer is
    followed by the activation, as in the published code. All activations but `relu` have
    derivatives of every order in x, for losses with a differential equation.
    """

    def __init__(
        self,
        features: int,
        grid: Grid,
        *,
        widths: Sequence[int] = (128, 128, 128),
        harmonics: int = 2,
        expansion: int = 0,
        activation: Activation = "gelu",
    ):
        super().__init__()
        self.coordinates = Coordinates(grid, harmonics, expansion)
        self.layers = DenseStack(
            (self.coordinates.size, *widths, features), activation, ends_active=True
        )

    def forward(self, points: Tensor) -> Tensor:
        return self.layers(self.coordinates(points))


class Coordinates(nn.Module):
    """z(x) of `Trunk`: points [..., ndim] -> [..., size]."""

    def __init__(self, grid: Grid, harmonics: int, expansion: int):
        super().__init__()
        if harmonics < 1 or expansion < 0:
            raise ValueError(
                f"harmonics={harmonics} must be at least 1 and expansion={expansion} at least 0."
            )
        self.grid, self.harmonics, self.expansion = grid, harmonics, expansion
        self.size = sum(
            2 * harmonics if axis.is_periodic else 1 + 2 * expansion for axis in grid.axes
        )

    def forward(self, points: Tensor) -> Tensor:
        parts = []
        for axis, x in zip(self.grid.axes, points.unbind(-1), strict=True):
            s = (x - axis.lower) / axis.length
            if axis.is_periodic:
                angles = [2 * math.pi * k * s for k in range(1, self.harmonics + 1)]
            else:
                angles = [math.pi * k * s for k in range(1, self.expansion + 1)]
                parts.append(2 * s - 1)
            parts += [wave for angle in angles for wave in (angle.cos(), angle.sin())]
        return torch.stack(parts, dim=-1)
