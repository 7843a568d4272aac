"""Norms of fields, one number per sample and channel: [b, c, *space] -> [b, c]."""

import torch
from torch import Tensor
from torch.linalg import vector_norm

from solvers.finite_difference import gradient
from solvers.grid import Grid


def l2_norm(u: Tensor) -> Tensor:
    """Root of the sum of squares over the grid points, without the volume of a cell: for ratios
    of norms on one grid.
    """
    return vector_norm(u.flatten(2), dim=2)


def h1_norm(u: Tensor, grid: Grid) -> Tensor:
    """(||u||^2 + ||grad u||^2)^(1/2) in the norm of `l2_norm`, the gradient in the grid's lengths.

    The gradient is that of `solvers.finite_difference`, one-sided at walls: wrapping around a
    wall, as in libraries that take every domain for periodic, adds a jump that is not there. A
    central difference does not see the shortest wave of a grid, which counts in the first term
    only.
    """
    parts = torch.cat((u.unsqueeze(2), gradient(u, grid)), dim=2)
    return vector_norm(parts.flatten(2), dim=2)


def difference(prediction: Tensor, target: Tensor) -> Tensor:
    """prediction - target; unequal shapes are refused, they would broadcast to a wrong figure."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in "
            "shape; both must be [b, c, *space]."
        )
    return prediction - target
