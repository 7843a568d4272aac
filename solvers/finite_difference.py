"""Finite-difference derivatives of fields on uniform grids."""

import torch
from torch import Tensor

from solvers.grid import Grid


def gradient(u: Tensor, grid: Grid) -> Tensor:
    """First derivatives, second order, [b, c, *space] -> [b, c, ndim, *space], in 1 / length units.

    Central inside; wrapped on periodic axes, one-sided with three points at any other side, so
    that no value beyond a wall is made up. Needs 3 points per axis.
    """
    if u.shape[2:] != grid.shape:
        raise ValueError(
            f"expected fields on the grid {grid.shape}, got {tuple(u.shape[2:])}; "
            "use grid.resized(shape) for another resolution."
        )
    parts = []
    for dim, axis in enumerate(grid.axes, start=2):
        if axis.size < 3:
            raise ValueError(f"axis {axis.name}: a derivative needs 3 points, got {axis.size}.")
        if axis.is_periodic:
            parts.append((u.roll(-1, dim) - u.roll(1, dim)) / (2 * axis.spacing))
        else:
            parts += torch.gradient(u, spacing=axis.spacing, dim=dim, edge_order=2)
    return torch.stack(parts, dim=2)
