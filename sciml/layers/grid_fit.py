"""A field on any grid brought to a size that an architecture can divide, and back."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from solvers.grid import Axis, Grid


class GridFit:
    """`extend` takes fields [b, c, *space] from `grid` to the larger `shape`, `restrict` back.

    A periodic axis of n points gets N on the same period: `extend` is the trigonometric
    interpolant and `restrict` keeps the modes that n points hold,

        u(s) = 1/n sum_j u[j] D(s - t[j]),    D(s) = sum_{0 <= k <= n/2} w[k] cos 2 pi k s

    with t[j] the n points in units of the period, w = 1 for k = 0 and the Nyquist mode and 2
    otherwise. Zeros instead would put a seam into the axis. Any other axis is continued by zeros
    beyond its upper side. `restrict` undoes `extend`, to rounding on periodic axes.
    """

    def __init__(self, grid: Grid, shape: Sequence[int]):
        self.grid, self.shape = grid, tuple(shape)
        if any(n > m for n, m in zip(grid.shape, self.shape, strict=True)):
            raise ValueError(f"GridFit: {grid.shape} points do not fit into {self.shape}.")
        self._axes = tuple(zip(range(2, 2 + grid.ndim), grid.axes, self.shape, strict=True))

    def extend(self, x: Tensor) -> Tensor:
        more = [0 if axis.is_periodic else m - axis.size for _, axis, m in self._axes]
        if any(more):
            x = pad(x, [side for number in reversed(more) for side in (0, number)])
        for dim, axis, m in self._axes:
            if axis.is_periodic and m > axis.size:
                x = _apply(_interpolation(axis, m)[0], x, dim)
        return x

    def restrict(self, x: Tensor) -> Tensor:
        for dim, axis, m in self._axes:
            if not axis.is_periodic:
                x = x.narrow(dim, 0, axis.size)
            elif m > axis.size:
                x = _apply(_interpolation(axis, m)[1], x, dim)
        return x


def _interpolation(axis: Axis, m: int) -> tuple[Tensor, Tensor]:
    """The interpolant of n points at m, [m, n], and the projection that inverts it, [n, m]."""
    n, first = axis.size, 0.5 if axis.points == "cells" else 0.0
    k = torch.arange(n // 2 + 1, dtype=torch.float64)
    few, many = (
        2 * math.pi * torch.outer((torch.arange(p, dtype=torch.float64) + first) / p, k)
        for p in (n, m)
    )
    few, many = (torch.cat((angle.cos(), angle.sin()), dim=1) for angle in (few, many))
    inner = torch.where(k == 0, 1.0, 2.0)  # m points hold the Nyquist mode of n as any other
    weight = torch.where(2 * k == n, 1.0, inner)
    return (many * weight.repeat(2)) @ few.T / n, (few * inner.repeat(2)) @ many.T / m


def _apply(matrix: Tensor, x: Tensor, dim: int) -> Tensor:
    return torch.movedim(x.movedim(dim, -1) @ matrix.T.to(x.device, x.dtype), -1, dim)
