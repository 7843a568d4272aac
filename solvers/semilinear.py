"""Equations with constant linear coefficients, by eigenfunctions of the Laplacian."""

from abc import abstractmethod
from collections.abc import Callable
from copy import copy

import torch
from torch import Tensor

from solvers.band import Band
from solvers.exponential import Exponential
from solvers.fourier import Fourier, on
from solvers.grid import Grid
from solvers.spectral import Basis, Spectral

Scheme = Callable[[Tensor, Callable[[Tensor], Tensor], float], Callable[[Tensor], Tensor]]


class SemiLinear(Spectral):
    """u_t = L u + N(u) with L a multiplier [b or 1, c or 1, *modes] in a basis, Fourier's unless
    an equation says otherwise.

    A subclass gives `linear` and `nonlinear`, and in `fraction` the part of the modes that the
    nonlinear term keeps. Time is stepped by `scheme(linear, nonlinear, dt)`, `substeps` times for
    each `dt`: an `Exponential` of order 4 unless another is given, such as
    `partial(Imex, scheme="rk4")`. Any precision; parameters may be numbers or tensors [b], one per
    sample.
    """

    fraction = 2 / 3

    def __init__(self, grid: Grid, *, dt: float, substeps: int = 1, scheme: Scheme | None = None):
        if not dt > 0 or substeps < 1:
            raise ValueError(f"dt={dt} must be positive and substeps={substeps} at least 1.")
        self.grid, self.dt = grid, dt
        self.basis, self._band = self.make_basis(grid), None
        self.linear = self.make_linear()
        if isinstance(self.basis, Fourier) and self.is_band_limited():
            self._band = Band(self.basis, self.fraction)
        self._scheme = scheme or Exponential
        self._divide(substeps)

    def make_basis(self, grid: Grid) -> Basis:
        return Fourier(grid)

    def is_band_limited(self) -> bool:
        """Whether the nonlinear term neither sees nor changes modes that are not kept. It is then
        given and gives the spectra of a `Band`.
        """
        return self.fraction < 1

    @property
    def fourier(self) -> Basis | Band:
        """The transform of the nonlinear term; on a periodic grid with derivatives."""
        return self._band or self.basis

    @abstractmethod
    def make_linear(self) -> Tensor:
        """The multiplier L, float64 or complex128."""

    @abstractmethod
    def nonlinear(self, v: Tensor) -> Tensor:
        """Spectrum of N(u) from the spectrum v of u, [b, c, *modes]; free of aliases."""

    def halved(self) -> "SemiLinear":
        other = copy(self)
        other._divide(2 * self.substeps)
        return other

    def _divide(self, substeps: int) -> None:
        self.substeps, linear, dt = substeps, self.linear, self.dt / substeps
        if self._band is not None:
            linear, far = self._band.split(linear)
            once = self._scheme(far, torch.zeros_like, dt)
            self._far = once(torch.ones_like(far, dtype=torch.complex128)) ** substeps
        self._step = self._scheme(linear, self.nonlinear, dt)

    def advance(self, u: Tensor) -> Tensor:
        v = self.basis.transform(u)
        if self._band is None:
            return self.basis.inverse(self._stepped(v))
        near, far = self._band.split(v)
        return self.basis.inverse(torch.cat((self._stepped(near), on(self._far, v) * far), dim=-1))

    def _stepped(self, v: Tensor) -> Tensor:
        for _ in range(self.substeps):
            v = self._step(v)
        return v

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        v = self.basis.transform(u)
        if self._band is None:
            slope = self.nonlinear(v)
        else:
            slope = self._band.padded(self.nonlinear(self._band.split(v)[0]))
        return self.basis.inverse(on(self.linear, v) * v + slope)
