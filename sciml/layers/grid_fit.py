"""A field on any grid brought to a size that an architecture can divide, and back."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from sciml.layers.resample import interpolation
from solvers.grid import Grid


class GridFit:
    """`extend` takes fields [b, c, *space] from `grid` to the larger `shape`, `restrict` back.

    A periodic axis of n points gets N on the same period: `extend` is the trigonometric
    interpolant and `restrict` keeps the modes that n points hold (`Resample`). Zeros instead would
    put a seam into the axis. Any other axis is continued by zeros beyond its upper side.
    `restrict` undoes `extend`, to rounding on periodic axes.
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
                x = _apply(interpolation(axis, replace(axis, size=m)), x, dim)
        return x

    def restrict(self, x: Tensor) -> Tensor:
        for dim, axis, m in self._axes:
            if not axis.is_periodic:
                x = x.narrow(dim, 0, axis.size)
            elif m > axis.size:
                x = _apply(interpolation(replace(axis, size=m), axis), x, dim)
        return x


def _apply(matrix: Tensor, x: Tensor, dim: int) -> Tensor:
    return torch.movedim(x.movedim(dim, -1) @ matrix.T.to(x.device, x.dtype), -1, dim)
