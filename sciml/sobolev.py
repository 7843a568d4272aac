"""Norms of fractional and negative order on periodic grids, by Parseval's identity."""

import math

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sciml.norms import difference
from solvers.fourier import Fourier, on
from solvers.grid import Grid


def sobolev_norm(u: Tensor, grid: Grid, order: float, alpha: float = 1.0) -> Tensor:
    """||u||_s of real fields u [..., *space], shape [...]:

        ||u||_s^2 = |domain| sum_k (alpha + |k|^2)^s |u_k|^2,    u = sum_k u_k exp(i k.x)

    with the wavenumbers k = 2 pi m / length of a periodic grid. Order 0 is the L2 norm, 1 and
    alpha = 1 that with the gradient, -1 its dual. `alpha`, in 1 / length^2, weighs the mean. The
    order is the exponent of the square of the norm, and nothing is divided by the number of
    fields, so the ratio of two norms is the relative error whatever their number.
    """
    fourier = Fourier(grid)
    if u.shape[-grid.ndim :] != grid.shape:
        raise ValueError(f"fields {tuple(u.shape)} are not on the grid {grid.shape}.")
    if not alpha > 0:
        raise ValueError(f"alpha={alpha} must be positive, it weighs the mean of a field.")
    weight = (alpha - fourier.laplacian) ** (order / 2) * _multiplicity(grid).sqrt()
    scale = math.sqrt(math.prod(axis.length for axis in grid.axes)) / math.prod(grid.shape)
    spectrum = fourier.transform(u) * on(weight * scale, u)
    return vector_norm(torch.view_as_real(spectrum).flatten(-grid.ndim - 1), dim=-1)


def relative_error(
    prediction: Tensor, target: Tensor, grid: Grid, order: float = 0.0, alpha: float = 1.0
) -> Tensor:
    """||prediction - target|| / ||target|| of trajectories [b, t, c, *space], shape [b, c], in the
    norm of L2 over time with values in H^order: one per cent everywhere reads 0.01 for any t.
    """
    parts = difference(prediction, target), target
    error, size = (vector_norm(sobolev_norm(u, grid, order, alpha), dim=1) for u in parts)
    return error / size


def _multiplicity(grid: Grid) -> Tensor:
    """How often each mode of `rfftn` stands for one of the full spectrum, along the last axis."""
    n = grid.shape[-1]
    count = torch.full((n // 2 + 1,), 2.0, dtype=torch.float64)
    count[0] = 1
    if n % 2 == 0:
        count[-1] = 1
    return count
