"""The wave equation with a speed that varies in space, and sides that absorb."""

import copy
import math

import torch
from torch import Tensor

from solvers.evolution import Evolution, Unstable
from solvers.fourier import on
from solvers.grid import Axis, Grid

REFLECTION = 1e-3  # of a short wave that crosses a sponge twice


class LeapfrogWave(Evolution):
    """u_tt = c(x)^2 Lap u as u_t = v - s u, v_t = c^2 Lap u - s v, by differences and leapfrog.

    Three points per axis for the Laplacian, and per substep of the length k

        u += k v / 2,    v += k c^2 Lap u,    u += k v / 2

    (position Verlet: symplectic, second order) between two halves of the damping exp(-s k),
    which is exact. Without sponges, s = 0, the sum of v^2 / c^2 + u (-Lap u) - k^2 v (-Lap v) / 4
    is kept to rounding, and waves of l points per length are slow by about (pi / l)^2 / 6.

    `speed` c in length / time: a number, [b], or [b or 1, 1, *space]. Sides are periodic,
    Dirichlet (u = 0), Neumann (u_n = 0) or open. Inside an open side lies a sponge of the
    thickness `sponge` in units of length, where s grows from 0 like the square of the depth
    [Kosloff & Kosloff 1986, J. Comput. Phys. 63]; v is not u_t there. It returns about 1e-3 of the
    amplitude of waves up to half its thickness long, some percent of those as long as it is, and
    most of much longer ones, so also of the mean of a bump. Points are cells, or `left` on
    periodic axes.

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
        sponge: float | None = None,
    ):
        c = torch.as_tensor(speed, dtype=torch.float64)
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
        self._sponge = c * _depth(grid, sponge) if _open(grid) else None
        self._require_stable(float(c.detach().max()))

    def halved(self) -> Evolution:
        other = copy.copy(self)
        other.substeps = 2 * self.substeps
        return other

    def advance(self, u: Tensor) -> Tensor:
        step, square = self.dt / self.substeps, on(self._square, u)
        damping = None if self._sponge is None else torch.exp(-0.5 * step * on(self._sponge, u))
        displacement, velocity = u[:, :1], u[:, 1:]
        for _ in range(self.substeps):
            if damping is not None:
                displacement, velocity = damping * displacement, damping * velocity
            displacement = displacement + 0.5 * step * velocity
            velocity = velocity + step * square * self.laplacian(displacement)
            displacement = displacement + 0.5 * step * velocity
            if damping is not None:
                displacement, velocity = damping * displacement, damping * velocity
        return torch.cat((displacement, velocity), dim=1)

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        force = on(self._square, u) * self.laplacian(u[:, :1])
        slope = torch.cat((u[:, 1:], force), dim=1)
        return slope if self._sponge is None else slope - on(self._sponge, u) * u

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


def _depth(grid: Grid, thickness: float | None) -> Tensor:
    """s / c in 1 / length, [*space]: the integral of 2 s / c over a sponge is -log REFLECTION."""
    if thickness is None or not 0 < thickness < min(axis.length for axis in grid.axes):
        raise ValueError(
            f"sponge={thickness}: open sides need the thickness of the layer that absorbs, in "
            "units of length and less than the domain; about the longest wavelength is good."
        )
    total = torch.zeros(grid.shape, dtype=torch.float64)
    for x, axis in zip(grid.mesh(), grid.axes, strict=True):
        ends = (axis.lower + thickness - x, x - axis.upper + thickness)
        for side, inside in zip(axis.boundary, ends, strict=True):
            if side == "open":
                total = total + (inside.clamp_min(0) / thickness).square()
    return -1.5 * math.log(REFLECTION) / thickness * total
