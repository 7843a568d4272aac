"""Fields as sums of eigenfunctions of the Laplacian: waves, sines and cosines of a box."""

from typing import Protocol

import torch
from torch import Tensor

from solvers.evolution import Evolution
from solvers.fourier import Fourier, on
from solvers.grid import Grid
from solvers.trigonometric import Trigonometric


class Basis(Protocol):
    """Functions of a grid that make the Laplacian diagonal, and the transform to them."""

    def transform(self, u: Tensor) -> Tensor:
        """Coefficients [..., *modes], real or complex, of a real field [..., *space]."""

    def inverse(self, v: Tensor) -> Tensor:
        """Real field [..., *space] with the coefficients v [..., *modes]."""

    @property
    def laplacian(self) -> Tensor:
        """Eigenvalues, float64 [*modes]."""

    def kept(self, fraction: float = 2 / 3) -> Tensor:
        """1 for modes below this fraction of the highest on every axis, 0 for others, [*modes]."""


class Spectral(Evolution):
    """An equation that is solved for the coefficients of its fields in a `Basis`.

    Spectral accuracy in space as long as the highest modes are empty; `tail` says how full they
    are. `fraction` is the part of the modes of every axis that take part, less than 1 where
    products are freed of aliases.
    """

    basis: Basis
    fraction: float = 1.0

    def tail(self, u: Tensor) -> Tensor:
        """Share of the energy of u in the highest third of the modes that take part, [b, c]; above
        about 1e-8 the grid is too coarse. 0 for a field that is zero.
        """
        v = self.basis.transform(u)
        high = 1 - on(self.basis.kept(2 / 3 * self.fraction), v.real)
        energy = v.abs().square()
        dims = tuple(range(-self.grid.ndim, 0))
        whole = energy.sum(dims).clamp_min(torch.finfo(energy.dtype).tiny)
        return (energy * high).sum(dims) / whole


class SinesAndCosines:
    """`Trigonometric` as a `Basis`: grids with Dirichlet (u = 0) and Neumann (u_n = 0) sides.

    `kept` removes aliases of products like `Fourier.kept`: with 2/3 for two factors and 1/2 for
    three. That holds for products of cosines, and of an odd number of sines; an even number of
    sines is no sum of sines and does not converge fast.
    """

    def __init__(self, grid: Grid):
        self.grid, self._series = grid, Trigonometric(grid)
        self.transform, self.inverse = self._series.analyse, self._series.synthesise
        self.laplacian = self._series.laplacian()

    def kept(self, fraction: float = 2 / 3) -> Tensor:
        inside = torch.ones_like(self.laplacian)
        for i, axis in enumerate(self.grid.axes):
            share = self._series.wavenumbers(i) * axis.spacing / (torch.pi * fraction)
            # A mode on the bound itself would be reached by aliasing; rounding must not decide.
            inside = inside * (share < 1 - 1e-12).view(-1, *[1] * (self.grid.ndim - 1 - i))
        return inside


def eigenfunctions(grid: Grid) -> Basis:
    """The basis that suits the sides of a grid."""
    if all(axis.is_periodic for axis in grid.axes):
        return Fourier(grid)
    return SinesAndCosines(grid)
