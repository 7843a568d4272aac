"""The wave equation with a speed that varies in space, and sides that absorb."""

import copy
import math

import torch
from torch import Tensor

from solvers.evolution import Evolution, Unstable
from solvers.fourier import on
from solvers.grid import Axis, Grid

REFLECTION = 1e-3  # of a short wave that crosses a sponge twice, were there a wall behind


class LeapfrogWave(Evolution):
    """u_tt = c(x)^2 Lap u as u_t = v - s u, v_t = c^2 Lap u - s v, by differences and leapfrog.

    Three points per axis for the Laplacian, and per substep of the length k

        u += k v / 2,    v += k c^2 Lap u,    u += k v / 2

    (position Verlet: symplectic, second order) between two halves of the damping, which is exact.
    Without open sides the sum of v^2 / c^2 + u (-Lap u) - k^2 v (-Lap v) / 4 is kept to rounding,
    and waves of the length l are slow by (pi h / l)^2 / 6.

    `speed` c in length / time: a number, [b], or [b or 1, 1, *space]. Sides are periodic,
    Dirichlet (u = 0), Neumann (u_n = 0) or open. Points are cells, or `left` on periodic axes.

    On an open side u_t + c u_n = 0 [Engquist & Majda 1977, Math. Comp. 31, first condition],
    which damps v in the last cells by c / h and returns pi h / (2 l) of a wave that arrives
    at a right angle, more of a slanting one. Inside may lie a sponge of the thickness `sponge` in
    units of length, where s grows from 0 like the square of the depth [Kosloff & Kosloff 1986,
    J. Comput. Phys. 63]; v is not u_t there. With it about 2e-3 of waves half its thickness long
    return, less of shorter ones, 4 % of those as long as it is; but most of much longer ones, so
    also the mean of a bump, for which no sponge is better.

    Raises `Unstable` unless the substeps are shorter than 1 / (c sqrt(sum 1 / h^2)).
    """

    fields = ("displacement", "velocity")

    def __init__(
        self,
        grid: Grid,
        *,
        speed: float | Tensor,
        dt: float,
        substeps: int = 1,
        sponge: float = 0.0,
    ):
        c = torch.as_tensor(speed, dtype=torch.float64).cpu()
        c = c.view(-1, 1, *[1] * grid.ndim) if c.dim() < 2 else c
        space = (1,) * grid.ndim if c.shape[2:] == (1,) * grid.ndim else grid.shape
        if not dt > 0 or substeps < 1 or not (c > 0).all():
            raise ValueError(f"dt={dt} and the speed must be positive, substeps={substeps} >= 1.")
        if c.dim() != 2 + grid.ndim or tuple(c.shape[1:]) != (1, *space):
            raise ValueError(
                f"speed has shape {tuple(c.shape)}; give a number, [b], or one value for each "
                f"point, [b, 1, {', '.join(map(str, grid.shape))}]."
            )
        if any(axis.points == "nodes" for axis in grid.axes):
            raise ValueError("LeapfrogWave needs points='cells', or 'left' on periodic axes.")
        self.grid, self.dt, self.substeps, self._square = grid, dt, substeps, c.square()
        self._damping = c * _damping(grid, sponge) if _open(grid) else None
        self._require_stable(float(c.detach().max()))

    def halved(self) -> Evolution:
        other = copy.copy(self)
        other.substeps = 2 * self.substeps
        return other

    def advance(self, u: Tensor) -> Tensor:
        step, square = self.dt / self.substeps, on(self._square, u)
        kept = None if self._damping is None else torch.exp(-0.5 * step * on(self._damping, u))
        for _ in range(self.substeps):
            u = u if kept is None else kept * u
            displacement, velocity = u[:, :1], u[:, 1:]
            displacement = displacement + 0.5 * step * velocity
            velocity = velocity + step * square * self.laplacian(displacement)
            u = torch.cat((displacement + 0.5 * step * velocity, velocity), dim=1)
            u = u if kept is None else kept * u
        return u

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        force = on(self._square, u) * self.laplacian(u[:, :1])
        slope = torch.cat((u[:, 1:], force), dim=1)
        return slope if self._damping is None else slope - on(self._damping, u) * u

    def laplacian(self, u: Tensor) -> Tensor:
        """Of a field [b, c, *space], by three points per axis."""
        total = torch.zeros_like(u)
        for dim, axis in enumerate(self.grid.axes, start=2):
            before, after = _beyond(u, axis, dim)
            jumps = torch.cat((before, u, after), dim=dim).diff(dim=dim)
            total = total + jumps.diff(dim=dim) / axis.spacing**2
        return total

    def _require_stable(self, fastest: float) -> None:
        rate = fastest * math.sqrt(sum(h**-2 for h in self.grid.spacing))
        needed = math.ceil(self.dt * rate * (1 + 1e-12))
        if self.substeps < needed:
            raise Unstable(
                f"LeapfrogWave: a step of dt={self.dt:g} at speeds up to {fastest:.3g} needs "
                f"{needed} substeps on this grid, {self.substeps} are taken. Raise substeps, or "
                "lower dt."
            )


def _beyond(u: Tensor, axis: Axis, dim: int) -> tuple[Tensor, Tensor]:
    """One layer before and one after a field."""
    first, last = u.narrow(dim, 0, 1), u.narrow(dim, axis.size - 1, 1)
    if axis.is_periodic:
        return last, first
    lower, upper = (-1.0 if side == "dirichlet" else 1.0 for side in axis.boundary)
    return lower * first, upper * last


def _open(grid: Grid) -> bool:
    return any("open" in axis.boundary for axis in grid.axes)


def _damping(grid: Grid, thickness: float) -> Tensor:
    """Of u and of v over c, in 1 / length, [2, *space].

    The integral of 2 s / c over a sponge is -log REFLECTION.
    """
    if not 0 <= thickness < min(axis.length for axis in grid.axes):
        raise ValueError(
            f"sponge={thickness} is the thickness of the layer that absorbs in units of length: at "
            "least 0, and less than the domain; twice the longest wavelength is good."
        )
    sponge, edge = torch.zeros(2, *grid.shape, dtype=torch.float64)
    for x, axis in zip(grid.mesh(), grid.axes, strict=True):
        for side, distance in zip(axis.boundary, (x - axis.lower, axis.upper - x), strict=True):
            if side == "open":
                edge = edge + (distance < axis.spacing) / axis.spacing
                if thickness > 0:
                    depth = (1 - distance / thickness).clamp_min(0)
                    sponge = sponge - 1.5 * math.log(REFLECTION) / thickness * depth.square()
    return torch.stack((sponge, sponge + edge))
