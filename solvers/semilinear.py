"""Equations with constant linear coefficients, by eigenfunctions of the Laplacian."""

from abc import abstractmethod
from collections.abc import Callable
from copy import copy

from torch import Tensor

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
        self.basis = self.make_basis(grid)
        self.linear = self.make_linear()
        self._scheme = scheme or Exponential
        self._divide(substeps)

    def make_basis(self, grid: Grid) -> Basis:
        return Fourier(grid)

    @property
    def fourier(self) -> Fourier:
        """The basis of an equation on a periodic grid, with its derivatives."""
        return self.basis

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
        self.substeps = substeps
        self._step = self._scheme(self.linear, self.nonlinear, self.dt / substeps)

    def advance(self, u: Tensor) -> Tensor:
        v = self.basis.transform(u)
        for _ in range(self.substeps):
            v = self._step(v)
        return self.basis.inverse(v)

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        v = self.basis.transform(u)
        return self.basis.inverse(on(self.linear, v) * v + self.nonlinear(v))
