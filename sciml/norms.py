"""Norms of fields, one number per sample and channel: [b, c, *space] -> [b, c]."""

from functools import lru_cache

import torch
from torch import Tensor
from torch.linalg import vector_norm

from solvers.finite_difference import gradient
from solvers.grid import Grid
from solvers.poisson import Poisson

TINY = 1e-30  # under a root, whose slope at 0 is infinite


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
    return l2_norm(with_gradient(u, grid))


def with_gradient(u: Tensor, grid: Grid) -> Tensor:
    """(u, grad u), [b, c, 1 + d, *space]: its `l2_norm` is the `h1_norm` of u."""
    return torch.cat((u.unsqueeze(2), gradient(u, grid)), dim=2)


def root_mean_square(u: Tensor) -> Tensor:
    """(mean u^2)^(1/2) over the grid points, which does not depend on their number."""
    return u.square().flatten(2).mean(dim=2).clamp_min(TINY).sqrt()


def dual_norm(u: Tensor, grid: Grid) -> Tensor:
    """(mean u (1 - Lap)^(-1) u)^(1/2), the H^-1 norm: a wave of wavenumber k counts 1 / (1 + k^2).

    The Laplacian is that of second-order differences, zero where sides are Dirichlet. `open` sides
    have none and are refused.
    """
    smooth = _smoother(grid)(u.flatten(0, 1).unsqueeze(1)).view_as(u)
    return (u * smooth).flatten(2).mean(dim=2).clamp_min(TINY).sqrt()


def dual_root(u: Tensor, grid: Grid) -> Tensor:
    """(1 - Lap)^(-1/2) u, whose `root_mean_square` is the `dual_norm` of u: to rounding on periodic
    axes, between Dirichlet sides and on `cells`; where points lie on Neumann walls the squares are
    summed by the trapezoidal rule there.
    """
    return _smoother(grid).root(u.flatten(0, 1).unsqueeze(1)).view_as(u)


@lru_cache
def _smoother(grid: Grid) -> Poisson:
    try:
        return Poisson(grid, shift=1.0)
    except ValueError as error:
        raise ValueError(f"the H^-1 norm is not known here: {error} Take the l2 norm.") from error


def difference(prediction: Tensor, target: Tensor) -> Tensor:
    """prediction - target; unequal shapes are refused, they would broadcast to a wrong figure."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in "
            "shape; both must be [b, c, *space]."
        )
    return prediction - target
