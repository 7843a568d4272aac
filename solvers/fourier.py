"""Derivatives, filters and de-aliasing by the discrete Fourier transform on periodic grids."""

import math
from functools import cached_property

import torch
from torch import Tensor

from solvers.grid import Grid


class Fourier:
    """Spectra of real fields on a periodic grid in 1 to 3 dimensions, and what acts on them.

        v[k] = sum_j u[j] exp(-i k.x[j]),    d^n u / dx^n  has the spectrum  (i k)^n v[k]

    A spectrum [..., *modes] is that of `torch.fft.rfftn`: all wavenumbers of every axis but the
    last, k = 2 pi m / length with m = 0, 1, .. -1, and the non-negative ones of the last. In odd
    derivatives the Nyquist mode of an even axis is zero: on the points it is a cosine whose
    derivative vanishes there [Trefethen 2000, Spectral Methods in MATLAB, chapter 3].

    Wavenumbers are kept in float64; `on` gives a tensor in the precision and on the device of a
    field. Samples of a batch do not influence each other. Nothing here knows an equation.
    """

    def __init__(self, grid: Grid):
        if not all(axis.is_periodic for axis in grid.axes):
            raise ValueError(
                f"a Fourier method needs a periodic grid on every axis, got {grid.boundary}; use "
                "boundary=periodic, or a solver by finite volumes or differences."
            )
        self.grid, self.ndim, self.shape = grid, grid.ndim, grid.shape
        self.modes = (*self.shape[:-1], self.shape[-1] // 2 + 1)
        self._dims = tuple(range(-self.ndim, 0))
        self._numbers = []
        for i, n in enumerate(self.shape):
            numbers = torch.fft.fftfreq(n, 1 / n, dtype=torch.float64)
            if i == self.ndim - 1:
                numbers = torch.fft.rfftfreq(n, 1 / n, dtype=torch.float64)
            self._numbers.append(self._along(i, numbers))

    def transform(self, u: Tensor) -> Tensor:
        """Spectrum [..., *modes] of a real field [..., *space]."""
        return torch.fft.rfftn(u, dim=self._dims)

    def inverse(self, v: Tensor) -> Tensor:
        """Real field [..., *space] with the spectrum v [..., *modes]."""
        return torch.fft.irfftn(v, s=self.shape, dim=self._dims)

    def derivative(self, axis: int, order: int = 1) -> Tensor:
        """(i k)^order along one axis, complex128, broadcastable to [*modes]."""
        number, n = self._numbers[axis], self.shape[axis]
        if order % 2:
            number = torch.where(2 * number.abs() == n, 0.0, number)
        k = 2 * math.pi / self.grid.axes[axis].length * number
        return (1j * k) ** order

    @cached_property
    def laplacian(self) -> Tensor:
        """-|k|^2, float64 [*modes]."""
        return sum(self.derivative(axis, 2).real for axis in range(self.ndim))

    @cached_property
    def inverse_laplacian(self) -> Tensor:
        """-1 / |k|^2 and 0 for the mean, which a periodic Poisson equation leaves open."""
        return torch.where(self.laplacian == 0, 0.0, 1 / self.laplacian)

    def kept(self, fraction: float = 2 / 3, *, circular: bool = False) -> Tensor:
        """1 for modes with |m| < fraction * n / 2 on every axis, 0 for the others, [*modes].

        With 2/3 no product of two kept fields is aliased into a kept mode, with 1/2 none of three
        [Orszag 1971]. `circular` keeps those inside the ellipse instead of the box.
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction={fraction} of the modes must lie between 0 and 1.")
        shares = [
            2 * m.abs() / (n * fraction) for m, n in zip(self._numbers, self.shape, strict=True)
        ]
        # A mode on the bound itself would be reached by aliasing; rounding must not decide.
        if circular:
            return (sum(s.square() for s in shares) < 1 - 1e-12).double()
        inside = torch.ones(self.modes, dtype=torch.bool)
        for share in shares:
            inside = inside & (share < 1 - 1e-12)
        return inside.double()

    def resample(self, u: Tensor, grid: Grid) -> Tensor:
        """The trigonometric interpolant of u [..., *space] on another size of the same domain.

        Modes that the new grid does not hold, its Nyquist modes included, are left out.
        """
        other = Fourier(grid)
        common = [min(n, m) for n, m in zip(self.shape, other.shape, strict=True)]
        v, w = self.transform(u), None
        w = v.new_zeros(*v.shape[: -self.ndim], *other.modes)
        source, target = (self._low(common, shape) for shape in (self.shape, other.shape))
        w[(..., *target)] = v[(..., *source)]
        return other.inverse(w) * (math.prod(other.shape) / math.prod(self.shape))

    def _low(self, common: list[int], shape: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Indices of the modes |m| < common / 2 in the spectra of a grid of this shape."""
        indices = []
        for i, (size, n) in enumerate(zip(common, shape, strict=True)):
            top = (size - 1) // 2
            numbers = torch.arange(0 if i == self.ndim - 1 else -top, top + 1)
            indices.append(self._along(i, numbers % n))
        return tuple(indices)

    def _along(self, axis: int, values: Tensor) -> Tensor:
        return values.view(-1, *[1] * (self.ndim - 1 - axis))


def on(symbol: Tensor, like: Tensor) -> Tensor:
    """A symbol in the precision, complex or real as it is, and on the device of `like`."""
    double = like.dtype in (torch.float64, torch.complex128)
    if symbol.is_complex():
        return symbol.to(like.device, torch.complex128 if double else torch.complex64)
    return symbol.to(like.device, torch.float64 if double else torch.float32)
