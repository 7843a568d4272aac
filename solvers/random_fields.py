"""Gaussian random fields that are functions: the same draw on every grid."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.grid import Axis, Grid

BASES = ("neumann", "dirichlet", "periodic")
NORMALISATIONS = ("none", "tau", "unit")


class GaussianRandomField:
    """psi ~ N(0, s^2 (-Lap + tau^2)^-alpha) on a box in 1 to 3 dimensions, with mean zero.

        psi(x) = sum_k  s (mu_k + tau^2)^(-alpha/2) xi_k phi_k(x),    xi_k ~ N(0, 1) independent

    phi_k is the orthonormal eigenbasis of -Lap on the box, mu_k its eigenvalues: a product over
    the axes (length l, z the coordinate from the lower end in units of l) of the functions below
    divided by sqrt(l), and a sum of their eigenvalues, j = 1, 2, ...

        neumann     1, sqrt2 cos(pi j z)                            (pi j / l)^2
        dirichlet   sqrt2 sin(pi j z)                               (pi j / l)^2
        periodic    1, sqrt2 cos(2 pi j z), sqrt2 sin(2 pi j z)     (2 pi j / l)^2

    The first `num_modes` functions of each axis are used on every grid and evaluated at its points
    by matrix products. So equal generator states give equal functions: fields on a coarse and on a
    fine grid agree at common points. There are no features below about l / num_modes; a grid that
    is coarser than that samples the function without filtering it.

    `normalisation` fixes s. Published codes differ here by factors: compare the standard deviation
    (see `variance`) with any file before reusing its numbers.

        none    s = scale
        tau     s = scale tau^(alpha - d/2), which keeps the variance of order one. With scale 1
                this is the convention of the Fourier neural operator's scripts: with cosines in
                2-D, the factor tau^(alpha - 1) of its GRF.m; periodic, its sigma in the version
                that draws complex normals (the one that draws real and imaginary parts of
                variance 1 each is larger by sqrt2)
        unit    s = scale / std, where std^2 is the variance averaged over the box

    The constant function, k = 0 of neumann and periodic, is left out as in those scripts;
    `zero_mean=False` keeps it. The basis is independent of the grid's own boundary condition.

    Source: Lord, Powell, Shardlow, An Introduction to Computational Stochastic PDEs (2014), ch. 7.
    Good start: Darcy flow, alpha=2, tau=3, basis="neumann", normalisation="tau". tau is in units
    of 1 / length.
    """

    def __init__(
        self,
        alpha: float,
        tau: float,
        *,
        basis: str = "neumann",
        normalisation: str = "tau",
        scale: float = 1.0,
        num_modes: int = 129,
        zero_mean: bool = True,
    ):
        if basis not in BASES:
            raise ValueError(f"basis={basis!r} is not one of {BASES}.")
        if normalisation not in NORMALISATIONS:
            raise ValueError(f"normalisation={normalisation!r} is not one of {NORMALISATIONS}.")
        if num_modes < 1 or (num_modes < 2 and zero_mean and basis != "dirichlet"):
            raise ValueError(f"num_modes={num_modes} leaves no function; take 2 or more.")
        if basis == "periodic" and num_modes % 2 == 0:
            raise ValueError(
                f"num_modes={num_modes} would leave a cosine without its sine; "
                "take an odd number for a periodic basis."
            )
        if not (tau > 0 and alpha > 0):
            raise ValueError(f"alpha={alpha} and tau={tau} must be positive.")
        self.alpha, self.tau, self.scale = alpha, tau, scale
        self.basis, self.normalisation = basis, normalisation
        self.num_modes, self.zero_mean = num_modes, zero_mean

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        """One field per generator, [b, *shape] in float64; each draws `num_modes**ndim` normals.

        A sample depends on its own generator alone, which lives on the CPU and is advanced.
        """
        self._check_grid(grid)
        shape = (self.num_modes,) * grid.ndim
        deviations = self._deviations(grid)
        matrices = [self._functions(axis) for axis in grid.axes]
        fields = []
        for generator in generators:
            normals = torch.randn(shape, generator=generator, dtype=torch.float64)
            fields.append(_expand(deviations * normals, matrices))
        return torch.stack(fields)

    def variance(self, grid: Grid) -> Tensor:
        """Pointwise variance of the truncated expansion at the grid's points, [*shape]."""
        self._check_grid(grid)
        squares = [self._functions(axis) ** 2 for axis in grid.axes]
        return _expand(self._deviations(grid) ** 2, squares)

    def _deviations(self, grid: Grid) -> Tensor:
        """s (mu_k + tau^2)^(-alpha/2), [num_modes, ...], one axis per dimension."""
        wavenumbers = [self._wavenumbers(axis) for axis in grid.axes]
        squares = torch.meshgrid(*(k**2 for k in wavenumbers), indexing="ij")
        deviations = (sum(squares) + self.tau**2) ** (-self.alpha / 2)
        if self.zero_mean and self.basis != "dirichlet":
            deviations[(0,) * grid.ndim] = 0.0
        if self.normalisation == "none":
            return self.scale * deviations
        if self.normalisation == "tau":
            return self.scale * self.tau ** (self.alpha - grid.ndim / 2) * deviations
        volume = math.prod(axis.length for axis in grid.axes)
        return self.scale * math.sqrt(volume) / deviations.norm() * deviations

    def _wavenumbers(self, axis: Axis) -> Tensor:
        """Square roots of the eigenvalues, [num_modes]."""
        j = torch.arange(self.num_modes, dtype=torch.float64)
        if self.basis == "periodic":
            return 2 * math.pi / axis.length * ((j + 1) // 2)
        return math.pi / axis.length * (j + 1 if self.basis == "dirichlet" else j)

    def _functions(self, axis: Axis) -> Tensor:
        """Basis functions at the points of an axis, [size, num_modes]."""
        phase = torch.outer(axis.coordinates() - axis.lower, self._wavenumbers(axis))
        values = math.sqrt(2 / axis.length) * (
            phase.sin() if self.basis == "dirichlet" else phase.cos()
        )
        if self.basis == "periodic":
            values[:, 2::2] = math.sqrt(2 / axis.length) * phase[:, 2::2].sin()
        if self.basis != "dirichlet":
            values[:, 0] = math.sqrt(1 / axis.length)
        return values

    def _check_grid(self, grid: Grid) -> None:
        if self.num_modes**grid.ndim > 2**26:
            raise ValueError(
                f"num_modes={self.num_modes} in {grid.ndim} dimensions is "
                f"{self.num_modes**grid.ndim:.1e} coefficients per sample; lower num_modes."
            )


class TwoValued:
    """A medium of two materials: `high` where psi >= level, `low` elsewhere.

    Darcy flow of the Fourier neural operator paper: high=12, low=3 (its script has 12 and 4).
    """

    def __init__(self, high: float = 12.0, low: float = 3.0, *, level: float = 0.0):
        if not (low > 0 and high > 0):
            raise ValueError(f"high={high} and low={low} must be positive to be permeabilities.")
        self.high, self.low, self.level = high, low, level

    def __call__(self, psi: Tensor) -> Tensor:
        return torch.full_like(psi, self.low).masked_fill_(psi >= self.level, self.high)


class TrigonometricScales:
    """log a of a coefficient that oscillates on `count` scales, in two dimensions:

        a(x) = prod_k (1 + cos(pi f_k (x + y)) / 2) (1 + sin(pi f_k (y - 3 x)) / 2)

    with f_k uniform in [2^(k-1), 1.5 2^(k-1)], k = 1 .. count, on coordinates in units of the
    lengths. In the manner of the multiscale set of Liu, Xu, Cao & Zhang 2024, Mitigating spectral
    bias for the multiscale operator learning, J. Comput. Phys. (arXiv:2210.10890), section 4.
    A scale is seen on grids of more than about 4 f_k points per axis.
    """

    def __init__(self, count: int = 6):
        if count < 1:
            raise ValueError(f"count={count} of the scales must be at least 1.")
        self.count = count

    def sample(self, generators: Sequence[torch.Generator], grid: Grid) -> Tensor:
        """[b, x, y] in float64."""
        if grid.ndim != 2:
            raise ValueError(f"TrigonometricScales has 2 dimensions, the grid {grid.ndim} axes.")
        x, y = (
            (points - axis.lower) / axis.length
            for points, axis in zip(grid.mesh(), grid.axes, strict=True)
        )
        fields = []
        for generator in generators:
            draws = torch.rand(self.count, generator=generator, dtype=torch.float64)
            log = torch.zeros_like(x)
            for k, draw in enumerate(draws):
                f = math.pi * 2**k * (1 + 0.5 * draw)
                log += torch.log1p(torch.cos(f * (x + y)) / 2)
                log += torch.log1p(torch.sin(f * (y - 3 * x)) / 2)
            fields.append(log)
        return torch.stack(fields)


class Lognormal:
    """exp(mean + deviation * psi), positive and smooth where psi is."""

    def __init__(self, mean: float = 0.0, deviation: float = 1.0):
        self.mean, self.deviation = mean, deviation

    def __call__(self, psi: Tensor) -> Tensor:
        return torch.exp(self.mean + self.deviation * psi)


def _expand(coefficients: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Contract axis k of the coefficients with the columns of matrix k."""
    for matrix in matrices:  # each turn takes the first axis away and appends the evaluated one
        coefficients = torch.tensordot(coefficients, matrix, dims=([0], [1]))
    return coefficients
