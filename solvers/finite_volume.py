"""Finite volumes for conservation laws: reconstruction, numerical flux, walls, Runge-Kutta."""

import math
from abc import abstractmethod
from copy import copy

import torch
from torch import Tensor

from solvers.evolution import Evolution, Unstable
from solvers.grid import Grid
from solvers.limiters import LIMITERS
from solvers.runge_kutta import SCHEMES


class ConservationLaw(Evolution):
    """u_t + sum_k d f_k(u) / dx_k = s(u) for cell means u [b, c, *space] on a uniform grid.

        du_i/dt = -sum_k (F_k,i+1/2 - F_k,i-1/2) / h_k + s(u_i)

    F is a numerical flux of the two states at a face: those of the cells beside it, continued by
    limited slopes (MUSCL) of the variables that `to_primitive` gives. Second order where the
    solution is smooth, first order at extrema and jumps. Sides are periodic, `open` (zero
    gradient) or walls (`neumann`: scalars are mirrored and the normal velocity changes sign).

    A step `dt` of a sample is divided into as many equal substeps as its fastest wave needs,
    |speed| dt / h <= cfl in the sum over axes, found anew before each step; more than
    `max_substeps` of `numerics` raise `Unstable`. With `substeps` their number is fixed, and too
    few raise `Unstable` as well. Samples of a batch do not influence each other. Conserved sums
    are kept to rounding. Limiters have kinks: derivatives exist almost everywhere.

    A subclass gives `flux`, `speed`, `numerical_flux` and what is its own below.
    """

    def __init__(self, grid: Grid, *, dt: float, numerics: "Numerics | None" = None):
        if any(axis.points == "nodes" for axis in grid.axes):
            raise ValueError("finite volumes need a grid of cells: points='cells' on every axis.")
        if any("dirichlet" in axis.boundary for axis in grid.axes):
            raise ValueError("finite volumes have periodic, open and neumann (wall) sides only.")
        if min(grid.shape) < 2:
            raise ValueError(
                f"finite volumes need 2 cells or more on every axis, got {grid.shape}."
            )
        if not dt > 0:
            raise ValueError(f"dt={dt} must be positive.")
        self.grid, self.dt, self.numerics = grid, dt, numerics or Numerics()

    @abstractmethod
    def flux(self, w: Tensor, axis: int) -> Tensor:
        """f_axis of primitive variables w [b, c, ...], in conserved variables."""

    @abstractmethod
    def speed(self, w: Tensor, axis: int) -> Tensor:
        """Largest |signal speed| along an axis, [b, ...]."""

    def rate(self, w: Tensor) -> Tensor:
        """Cells that signals cross per time, the sum over axes, [b]; a substep is at most
        cfl / rate.
        """
        return sum(
            self.speed(w, axis).flatten(1).amax(dim=1) / a.spacing
            for axis, a in enumerate(self.grid.axes)
        )

    def numerical_flux(self, left: Tensor, right: Tensor, axis: int) -> Tensor:
        """Rusanov: the mean flux, less half the largest speed times the jump."""
        u_left, u_right = self.to_conserved(left), self.to_conserved(right)
        fastest = torch.maximum(self.speed(left, axis), self.speed(right, axis)).unsqueeze(1)
        mean = 0.5 * (self.flux(left, axis) + self.flux(right, axis))
        return mean - 0.5 * fastest * (u_right - u_left)

    def face_fluxes(self, left: Tensor, right: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """The numerical flux as the cell below and the cell above a face see it: one flux, unless
        a source is balanced there.
        """
        flux = self.numerical_flux(left, right, axis)
        return flux, flux

    def inner_source(self, lower: Tensor, upper: Tensor, axis: int) -> Tensor | None:
        """What the states at the two ends of a cell along an axis add to its balance."""
        return None

    def to_primitive(self, u: Tensor) -> Tensor:
        """The variables that are continued to the faces; u itself unless a law says otherwise."""
        return u

    def to_conserved(self, w: Tensor) -> Tensor:
        return w

    def mirrored(self, w: Tensor, axis: int) -> Tensor:
        """Primitive variables as a wall reflects them; those from 1 to ndim are the velocity."""
        sign = torch.ones(w.shape[1], dtype=w.dtype, device=w.device)
        sign[1 + axis] = -1
        return w * sign.view(-1, *[1] * self.grid.ndim)

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        w = self.to_primitive(u)
        slope = torch.zeros_like(u)
        for axis, a in enumerate(self.grid.axes):
            dim, n = axis + 2, a.size
            left, right = self._states(self._padded(w, axis), axis)
            below, above = self.face_fluxes(left, right, axis)
            slope = slope - (below.narrow(dim, 1, n) - above.narrow(dim, 0, n)) / a.spacing
            inner = self.inner_source(right.narrow(dim, 0, n), left.narrow(dim, 1, n), axis)
            slope = slope if inner is None else slope + inner
        return slope

    def advance(self, u: Tensor) -> Tensor:
        needed, numerics = self._needed(u), self.numerics
        allowed = numerics.max_substeps if numerics.substeps is None else numerics.substeps
        if needed.max() > allowed:
            raise Unstable(
                f"{type(self).__name__}: a step of dt={self.dt:g} needs {int(needed.max())} "
                f"substeps for cfl={numerics.cfl:g}, {allowed} are allowed. Lower dt, or raise "
                "substeps or max_substeps."
            )
        if numerics.substeps is not None:
            needed = torch.full_like(needed, numerics.substeps)
        counts = needed.view(-1, *[1] * (u.dim() - 1))
        for k in range(int(needed.max())):
            after = numerics.scheme(self.rhs, u, (self.dt / counts).to(u.dtype))
            u = after if k < int(needed.min()) else torch.where(k < counts, after, u)
        return u

    def halved(self) -> "ConservationLaw":
        other = copy(self)
        other.numerics = self.numerics.halved()
        return other

    @torch.no_grad()
    def _needed(self, u: Tensor) -> Tensor:
        """Substeps that each sample needs, [b]."""
        rate = self.rate(self.to_primitive(u))
        if not (rate < math.inf).all():
            raise Unstable(f"{type(self).__name__}: a wave speed is not finite.")
        return (self.dt * rate.double() / self.numerics.cfl).ceil().clamp_min(1).long()

    def _states(self, padded: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Both states at every face, from cells with two more on either side."""
        dim = axis + 2
        n = padded.shape[dim]
        jump = padded.diff(dim=dim)
        slope = self.numerics.limiter(jump.narrow(dim, 0, n - 2), jump.narrow(dim, 1, n - 2))
        inner = padded.narrow(dim, 1, n - 2)
        left = (inner + 0.5 * slope).narrow(dim, 0, n - 3)
        right = (inner - 0.5 * slope).narrow(dim, 1, n - 3)
        return left, right

    def _padded(self, w: Tensor, axis: int) -> Tensor:
        """Two cells more on either side, as the boundary condition says."""
        dim, (lower, upper) = axis + 2, self.grid.axes[axis].boundary
        n = w.shape[dim]
        if lower == "periodic":
            before, after = w.narrow(dim, n - 2, 2), w.narrow(dim, 0, 2)
        else:
            before = self._outside(w.narrow(dim, 0, 2), lower, axis, 0)
            after = self._outside(w.narrow(dim, n - 2, 2), upper, axis, 1)
        return torch.cat((before, w, after), dim=dim)

    def _outside(self, edge: Tensor, kind: str, axis: int, at: int) -> Tensor:
        if kind == "neumann":
            return self.mirrored(edge.flip(axis + 2), axis)
        last = edge.narrow(axis + 2, at, 1)
        return torch.cat((last, last), dim=axis + 2)


class Numerics:
    """How finite volumes are computed: the slope limiter (`LIMITERS`), the Runge-Kutta method
    (`SCHEMES`) and the substeps of a step.
    """

    def __init__(
        self,
        *,
        limiter: str = "van_leer",
        scheme: str = "ssp_rk2",
        cfl: float = 0.4,
        substeps: int | None = None,
        max_substeps: int = 10_000,
    ):
        if limiter not in LIMITERS:
            raise ValueError(f"limiter={limiter!r}: choose one of {', '.join(LIMITERS)}.")
        if scheme not in SCHEMES:
            raise ValueError(f"scheme={scheme!r}: choose one of {', '.join(SCHEMES)}.")
        if not 0 < cfl <= 1:
            raise ValueError(f"cfl={cfl} must lie in (0, 1].")
        if max_substeps < 1 or (substeps is not None and substeps < 1):
            raise ValueError(
                f"substeps={substeps} and max_substeps={max_substeps} must be at least 1."
            )
        self.limiter, self.scheme, self.cfl = LIMITERS[limiter], SCHEMES[scheme], cfl
        self.substeps, self.max_substeps = substeps, max_substeps

    def halved(self) -> "Numerics":
        """Twice as many substeps."""
        other = copy(self)
        other.cfl, other.max_substeps = self.cfl / 2, 2 * self.max_substeps
        other.substeps = None if self.substeps is None else 2 * self.substeps
        return other
