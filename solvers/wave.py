"""The wave equation with a constant speed."""

import torch
from torch import Tensor

from solvers.evolution import Evolution
from solvers.fourier import on
from solvers.grid import Grid
from solvers.spectral import Spectral, eigenfunctions


class Wave(Spectral):
    """u_tt = c^2 Lap u as u_t = v, v_t = c^2 Lap u, exact in time for any dt.

        u_k(t + dt) =  cos(w dt) u_k + sin(w dt) / w v_k,
        v_k(t + dt) = -w sin(w dt) u_k + cos(w dt) v_k,       w = c |k|

    for every coefficient in the eigenfunctions of the grid: sides are periodic, Dirichlet (u = 0,
    waves return with the other sign) or Neumann (u_n = 0, with the same sign); see
    `Trigonometric` for the points. `speed` c in length / time, a number or [b]. The energy, the
    integral of (v^2 + c^2 |grad u|^2) / 2, is kept to rounding. Spectral in space: for fields that
    satisfy the conditions at the sides together with their even derivatives (or, on Neumann
    sides, odd ones). A speed that varies in space and open sides: `LeapfrogWave`.
    """

    fields = ("displacement", "velocity")

    def __init__(self, grid: Grid, *, speed: float | Tensor, dt: float):
        if not dt > 0 or not (torch.as_tensor(speed) > 0).all():
            raise ValueError(f"dt={dt} and speed={speed} must be positive.")
        self.grid, self.dt, self.basis = grid, dt, eigenfunctions(grid)
        self.linear = self.per_sample(speed) ** 2 * self.basis.laplacian
        angle = dt * self.per_sample(speed) * (-self.basis.laplacian).sqrt()
        self._cosine, self._sine = angle.cos(), dt * torch.sinc(angle / torch.pi)

    def halved(self) -> Evolution:
        return self

    def advance(self, u: Tensor) -> Tensor:
        w = self.basis.transform(u)
        displacement, velocity = w[:, :1], w[:, 1:]
        cosine, sine, linear = (on(s, w.real) for s in (self._cosine, self._sine, self.linear))
        moved = cosine * displacement + sine * velocity
        pushed = linear * sine * displacement + cosine * velocity
        return self.basis.inverse(torch.cat((moved, pushed), dim=1))

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        w = self.basis.transform(u[:, :1])
        force = self.basis.inverse(on(self.linear, w.real) * w)
        return torch.cat((u[:, 1:], force), dim=1)
