"""Positions of the points of a grid as channels."""

import torch
from torch import Tensor

from solvers.grid import Axis, Grid


def with_coordinates(v: Tensor, grid: Grid, axes: tuple[Axis, ...]) -> Tensor:
    """v [*space, b, c] and, for each of `axes` of the grid, one more channel: the position along
    it, scaled to [0, 1].
    """
    channels = [v]
    for i, axis in enumerate(grid.axes):
        if axis in axes:
            s = ((axis.coordinates() - axis.lower) / axis.length).to(v.device, v.dtype)
            s = s.reshape(-1, *[1] * (grid.ndim - i + 1))
            channels.append(s.expand(*v.shape[:-1], 1))
    return torch.cat(channels, dim=-1)
