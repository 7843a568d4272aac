"""Linear advection: the exact shift, and finite volumes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from solvers.evolution import Evolution
from solvers.finite_volume import ConservationLaw, Numerics
from solvers.fourier import Fourier, on
from solvers.grid import Grid
from solvers.spectral import Spectral

Velocity = float | Sequence[float] | Tensor


class Advection(Spectral):
    """u_t + c . grad u = 0 on a periodic grid: u(x - c dt), exact for any dt.

    `velocity` c in length / time, one for all samples or one for each: a number or [b] in one
    dimension, a number per axis or [b, ndim] in more. The trigonometric interpolant of u is
    shifted, so every mode below the Nyquist mode is exact to rounding. The Nyquist mode of an even
    axis stands still along that axis, as in `rhs`: its shifted wave is no real field on the
    points. So steps form a group and keep the mean and the sum of squares; jumps ring.
    """

    fields = ("u",)

    def __init__(self, grid: Grid, *, velocity: Velocity, dt: float):
        if not dt > 0:
            raise ValueError(f"dt={dt} must be positive.")
        self.grid, self.dt, self.basis = grid, dt, Fourier(grid)
        self.velocity = _per_axis(velocity, grid)
        self.linear = -sum(
            self.per_sample(self.velocity[:, axis]) * self.basis.derivative(axis)
            for axis in range(grid.ndim)
        )
        self._shift = (dt * self.linear).exp()

    def halved(self) -> Evolution:
        return self

    def advance(self, u: Tensor) -> Tensor:
        v = self.basis.transform(u)
        return self.basis.inverse(on(self._shift, v) * v)

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        v = self.basis.transform(u)
        return self.basis.inverse(on(self.linear, v) * v)


class FiniteVolumeAdvection(ConservationLaw):
    """u_t + c . grad u = 0 by finite volumes; Rusanov's flux is the upwind flux here.

    `velocity` as in `Advection`. In one dimension the total variation does not grow and no new
    extrema appear. Sides are periodic or open; what enters through an open side continues the
    value next to it. There are no walls: fluid would pass through them.
    """

    fields = ("u",)

    def __init__(
        self, grid: Grid, *, velocity: Velocity, dt: float, numerics: Numerics | None = None
    ):
        if any("neumann" in axis.boundary for axis in grid.axes):
            raise ValueError("FiniteVolumeAdvection has periodic and open sides, not neumann.")
        super().__init__(grid, dt=dt, numerics=numerics)
        self.velocity = _per_axis(velocity, grid)

    def flux(self, w: Tensor, axis: int) -> Tensor:
        return self.per_sample(self.velocity[:, axis], w) * w

    def speed(self, w: Tensor, axis: int) -> Tensor:
        speed = self.per_sample(self.velocity[:, axis], w).abs()
        return speed.squeeze(1).expand(len(w), *w.shape[2:])


def _per_axis(velocity: Velocity, grid: Grid) -> Tensor:
    """[b or 1, ndim], float64."""
    value = torch.as_tensor(velocity, dtype=torch.float64).cpu()
    if isinstance(velocity, Tensor):
        value = value.unsqueeze(-1) if value.dim() == 1 and grid.ndim == 1 else value
    else:
        value = value.reshape(1, -1)
    if value.dim() != 2 or value.shape[1] != grid.ndim:
        raise ValueError(
            f"velocity has shape {tuple(torch.as_tensor(velocity).shape)}; a grid with {grid.ndim} "
            f"axes takes {grid.ndim} numbers, or a tensor [b, {grid.ndim}] with some per sample."
        )
    return value
