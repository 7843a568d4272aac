"""At which length scales a prediction is wrong: energies by wavenumber, per sample and channel.

A field is expanded in complex exponentials on periodic axes and in cosines (DCT-II) on all others;
the cosine basis continues a field evenly across a wall, so that unequal values on opposite walls
are not read as a jump with a spectrum of its own. The energies of all modes add up to the mean
square of the field over the grid points (Parseval), on odd and even sizes alike.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.evaluation.metrics import WELL_EPS, difference
from solvers.grid import Grid

BANDS = ("low", "mid", "high")


class Spectrum(NamedTuple):
    """Energies in shells of |k|: wavenumber [k] (radian per length), truth and error [b, c, k]."""

    wavenumber: Tensor
    truth: Tensor
    error: Tensor


def error_spectrum(prediction: Tensor, target: Tensor, grid: Grid) -> Spectrum:
    """Energy of the truth and of the error in isotropic shells, fields [b, c, *space].

    Shell i holds the modes with |k| nearest to i dk, where dk is the smallest wavenumber that fits
    the domain (2 pi / L on a periodic axis, pi / L on others). Shells without modes are left out.
    The corners of the wavenumber box are kept: the sum over shells is the mean square.
    """
    error, truth = modal_energy(difference(prediction, target), grid), modal_energy(target, grid)
    width = min(_fundamental(grid))
    shell = (wavenumber(grid) / width).round().long().flatten()
    filled = torch.bincount(shell) > 0
    k = width * torch.arange(len(filled), dtype=torch.float64)[filled]
    shell = shell.to(target.device)
    sums = [_bin(energy, shell, len(filled))[..., filled] for energy in (truth, error)]
    return Spectrum(k, *sums)


def band_nmse(prediction: Tensor, target: Tensor, grid: Grid, eps: float = WELL_EPS) -> Tensor:
    """Error energy over true energy in a low, a middle and a high band, [b, c, 3].

    The Well's binned spectral NMSE: with wavenumbers in radian per grid spacing the edges of the
    bands are 0 and three logarithmically spaced ones from 2 pi / n to pi sqrt(ndim), where n is
    the number of points on the longest axis. On grids with walls the cosine basis replaces The
    Well's Fourier one.
    """
    first, last = 2 * math.pi / max(grid.shape), math.pi * math.sqrt(grid.ndim)
    edges = [first * (last / first) ** (i / 3) for i in (1, 2)]
    units = [axis.spacing for axis in grid.axes]
    band = torch.bucketize(wavenumber(grid, units), torch.tensor(edges).double(), right=True)
    band = band.flatten().to(target.device)
    error, truth = modal_energy(difference(prediction, target), grid), modal_energy(target, grid)
    ratio = _bin(error, band, 3) / (_bin(truth, band, 3) + eps)
    return ratio.nan_to_num(nan=math.inf, posinf=math.inf)


def resolved_split(prediction: Tensor, target: Tensor, grid: Grid, coarse: Grid) -> Tensor:
    """The relative L2 error in the modes that `coarse` holds and in all others, and the size of the
    truth in the others, [b, c, 3]:

        e_resolved^2 + e_beyond^2 = (||prediction - target|| / ||target||)^2

    The third figure is what a prediction leaves that is right on `coarse` and knows no more. A
    grid of n points holds the |k| < n / 2 of a periodic axis, and the n longest cosines of others.
    """
    held = torch.ones(grid.shape, dtype=torch.bool, device=target.device)
    for dim, (axis, other) in enumerate(zip(grid.axes, coarse.axes, strict=True)):
        index = torch.arange(axis.size, device=target.device)
        if axis.is_periodic:
            index = 2 * torch.minimum(index, axis.size - index)
        held &= (index < other.size).reshape([-1 if d == dim else 1 for d in range(grid.ndim)])
    error, truth = modal_energy(difference(prediction, target), grid), modal_energy(target, grid)
    parts = [error * held, error * ~held, truth * ~held]
    energies = torch.stack([part.flatten(2).sum(dim=2) for part in parts], dim=-1)
    ratio = energies / truth.flatten(2).sum(dim=2).unsqueeze(-1)
    return ratio.sqrt().nan_to_num(nan=math.inf, posinf=math.inf)


def modal_energy(u: Tensor, grid: Grid) -> Tensor:
    """|u_hat|^2 of every mode, [b, c, *space]; the sum over modes is the mean of u^2."""
    if u.shape[2:] != grid.shape:
        raise ValueError(
            f"expected fields on the grid {grid.shape}, got {tuple(u.shape[2:])}; "
            "use grid.resized(shape) for another resolution."
        )
    periodic = [dim for dim, axis in enumerate(grid.axes, start=2) if axis.is_periodic]
    for dim, axis in enumerate(grid.axes, start=2):
        if not axis.is_periodic:
            u = cosine_transform(u, dim)
    if periodic:
        u = torch.fft.fftn(u, dim=periodic, norm="ortho")
    return u.abs().square() / math.prod(grid.shape)


def wavenumber(grid: Grid, units: list[float] | None = None) -> Tensor:
    """|k| of every mode in the order of `modal_energy`, [*space], float64.

    In radian per length, or, with a length per axis in `units`, in radian per that length.
    """
    squares = torch.zeros(grid.shape, dtype=torch.float64)
    for dim, (axis, k1) in enumerate(zip(grid.axes, _fundamental(grid), strict=True)):
        index = torch.arange(axis.size, dtype=torch.float64)
        if axis.is_periodic:
            index = torch.minimum(index, axis.size - index)
        k = k1 * index * (units[dim] if units else 1.0)
        squares += k.square().reshape([-1 if d == dim else 1 for d in range(grid.ndim)])
    return squares.sqrt()


def cosine_transform(u: Tensor, dim: int) -> Tensor:
    """Orthonormal DCT-II of real u along `dim`, by a Fourier transform of its even continuation.

    u_hat_m = sqrt((2 - [m = 0]) / n) sum_i u_i cos(pi m (i + 1/2) / n)
    """
    u = u.movedim(dim, -1)
    n = u.shape[-1]
    m = torch.arange(n, dtype=u.dtype, device=u.device)
    u_hat = torch.fft.rfft(torch.cat([u, u.flip(-1)], dim=-1))[..., :n]
    scale = torch.full_like(m, math.sqrt(2 / n))
    scale[0] = math.sqrt(1 / n)
    u_hat = (u_hat * torch.polar(scale / 2, -math.pi * m / (2 * n))).real
    return u_hat.movedim(-1, dim)


def _fundamental(grid: Grid) -> list[float]:
    """The smallest positive wavenumber of each axis."""
    return [
        (2 if axis.is_periodic else 1) * math.pi / (axis.size * axis.spacing) for axis in grid.axes
    ]


def _bin(energy: Tensor, index: Tensor, num_bins: int) -> Tensor:
    sums = energy.new_zeros(*energy.shape[:2], num_bins)
    return sums.index_add_(2, index, energy.flatten(2))
