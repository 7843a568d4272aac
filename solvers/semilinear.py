"""Equations with constant linear coefficients on periodic grids, by Fourier's method."""

from abc import abstractmethod
from collections.abc import Callable
from copy import copy

from torch import Tensor

from solvers.evolution import Evolution
from solvers.exponential import Exponential
from solvers.fourier import Fourier, on
from solvers.grid import Grid

Scheme = Callable[[Tensor, Callable[[Tensor], Tensor], float], Callable[[Tensor], Tensor]]


class SemiLinear(Evolution):
    """u_t = L u + N(u) with L a Fourier multiplier [b or 1, c or 1, *modes].

    A subclass gives `linear` and `nonlinear`, and in `fraction` the part of the modes that the
    nonlinear term keeps. Time is stepped by `scheme(linear, nonlinear, dt)`,
    `substeps` times for each `dt`: an `Exponential` of order 4 unless another is given, such as
    `partial(Imex, scheme="rk4")`. Spectral accuracy in space as long as the highest modes are
    empty; `tail` says how full they are. Any precision; parameters may be numbers or tensors [b],
    one per sample.
    """

    fraction = 2 / 3

    def __init__(self, grid: Grid, *, dt: float, substeps: int = 1, scheme: Scheme | None = None):
        if not dt > 0 or substeps < 1:
            raise ValueError(f"dt={dt} must be positive and substeps={substeps} at least 1.")
        self.grid, self.dt = grid, dt
        self.fourier = Fourier(grid)
        self.linear = self.make_linear()
        self._scheme = scheme or Exponential
        self._divide(substeps)

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
        v = self.fourier.transform(u)
        for _ in range(self.substeps):
            v = self._step(v)
        return self.fourier.inverse(v)

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        v = self.fourier.transform(u)
        return self.fourier.inverse(on(self.linear, v) * v + self.nonlinear(v))

    def tail(self, u: Tensor) -> Tensor:
        """Share of the energy of u in the highest third of the modes that take part, [b, c]."""
        v = self.fourier.transform(u)
        high = 1 - on(self.fourier.kept(2 / 3 * self.fraction), v.real)
        energy = v.abs().square()
        dims = tuple(range(-self.grid.ndim, 0))
        return (energy * high).sum(dims) / energy.sum(dims)

    def per_sample(self, value: float | Tensor) -> float | Tensor:
        """A number, or one for each sample [b], broadcastable to [b, c, *space]."""
        if isinstance(value, Tensor) and value.dim() > 0:
            return value.view(-1, 1, *[1] * self.grid.ndim)
        return value
