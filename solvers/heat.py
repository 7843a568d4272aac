"""The heat equation with sources that depend on time."""

import copy
import math
from collections.abc import Callable

import torch
from torch import Tensor

from solvers.exponential import phi
from solvers.fourier import on
from solvers.grid import Grid
from solvers.moving_sources import CircularPath, MovingGaussians
from solvers.spectral import Spectral, eigenfunctions

Source = Callable[[Grid, Tensor], Tensor]  # (grid, time [b]) -> rate [b, 1, *space]


class Heat(Spectral):
    """u_t = a Lap u + S(x, t), a constant in space; sides periodic, Dirichlet (0) or Neumann (0).

    Without a `source` a step is exact for any dt. With one it is an exponential quadrature at the
    two Gauss points c_i = 1/2 -+ sqrt(3)/6 of each substep of the length k,

        u(t + k) = e^(k a Lap) u(t) + k sum_i b_i(k a Lap) S(t + c_i k),
        b_1(z) = (c_2 phi_1 - phi_2) / (c_2 - c_1),    b_2(z) = (phi_2 - c_1 phi_1) / (c_2 - c_1)

    [Hochbruck & Ostermann 2010, Acta Numerica 19, section 2.1], so S may be any function of
    time; a constant one is integrated exactly. The order is 4 for a source that satisfies the
    conditions at the sides, and falls towards 2 where it does not.

    A stepper knows nothing but the state, so with a source the state holds the time: the fields are
    the temperature and `time`, the same in every point of a sample and dt later after a step.
    Each sample has its own clock (its mean over the points counts), and trajectories can be
    cut, stacked and differentiated. `source` maps the grid and the times [b] to [b, 1, *space], see
    `MovingGaussians`. `diffusivity` a in length^2 / time is a number or [b].
    """

    def __init__(
        self,
        grid: Grid,
        *,
        diffusivity: float | Tensor,
        dt: float,
        source: Source | None = None,
        substeps: int = 1,
    ):
        if not dt > 0 or substeps < 1:
            raise ValueError(f"dt={dt} must be positive and substeps={substeps} at least 1.")
        if (torch.as_tensor(diffusivity) < 0).any():
            raise ValueError(f"diffusivity={diffusivity} must not be negative.")
        self.grid, self.dt, self.basis, self.source = grid, dt, eigenfunctions(grid), source
        self.fields = ("temperature",) if source is None else ("temperature", "time")
        self.linear = self.per_sample(diffusivity) * self.basis.laplacian
        self._divide(1 if source is None else substeps)

    def state(self, temperature: Tensor, time: float | Tensor = 0.0) -> Tensor:
        """What a step takes: the temperature [b, 1, *space] with the time, a number or [b]."""
        if self.source is None:
            return temperature
        clock = torch.as_tensor(time, dtype=temperature.dtype, device=temperature.device)
        clock = self.per_sample(clock).expand_as(temperature)
        return torch.cat((temperature, clock), dim=1)

    def halved(self) -> "Heat":
        if self.source is None:
            return self
        other = copy.copy(self)
        other._divide(2 * self.substeps)
        return other

    def _divide(self, substeps: int) -> None:
        self.substeps = substeps
        step = self.dt / substeps
        first, second = (phi(k, step * self.linear).real for k in (1, 2))
        gap = math.sqrt(3) / 3
        self._nodes = (0.5 - gap / 2, 0.5 + gap / 2)
        self._weights = [
            step * (self._nodes[1] * first - second) / gap,
            step * (second - self._nodes[0] * first) / gap,
        ]
        self._decay = (step * self.linear).exp()

    def advance(self, u: Tensor) -> Tensor:
        v, step = self.basis.transform(u[:, :1]), self.dt / self.substeps
        decay = on(self._decay, v.real)
        if self.source is None:
            return self.basis.inverse(decay * v)
        time = self._time(u)
        for i in range(self.substeps):
            v = decay * v
            for node, weight in zip(self._nodes, self._weights, strict=True):
                rate = self.source(self.grid, time + (i + node) * step)
                v = v + on(weight, v.real) * self.basis.transform(rate)
        return torch.cat((self.basis.inverse(v), u[:, 1:] + self.dt), dim=1)

    def rhs(self, u: Tensor) -> Tensor:
        self._check(u)
        v = self.basis.transform(u[:, :1])
        slope = self.basis.inverse(on(self.linear, v.real) * v)
        if self.source is None:
            return slope
        slope = slope + self.source(self.grid, self._time(u))
        return torch.cat((slope, torch.ones_like(slope)), dim=1)

    def tail(self, u: Tensor) -> Tensor:
        """Of the temperature; the time has none."""
        share = super().tail(u[:, :1])
        return torch.cat((share, torch.zeros_like(share)), dim=1)[:, : len(self.fields)]

    def _time(self, u: Tensor) -> Tensor:
        return u[:, 1].flatten(1).mean(dim=1)


class HeatWithCirclingSource(Heat):
    """`Heat` in two dimensions with one Gaussian source on a circle about `center`.

    `radius`, `width` in units of length, `angular_speed` in 1 / time, `phase` in radians and
    `strength`, the heating in the middle of the source, are numbers or [b], one per sample. The
    fields are temperature and time.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        diffusivity: float | Tensor,
        dt: float,
        radius: float | Tensor,
        angular_speed: float | Tensor,
        phase: float | Tensor = 0.0,
        strength: float | Tensor = 1.0,
        width: float | Tensor = 0.1,
        center: tuple[float, float] = (0.5, 0.5),
        substeps: int = 1,
    ):
        radius, angular_speed, phase, strength, width = (
            torch.as_tensor(value, dtype=torch.float64).reshape(-1, 1)
            for value in (radius, angular_speed, phase, strength, width)
        )
        path = CircularPath([[list(center)]], radius, angular_speed, phase)
        source = MovingGaussians(path, strength=strength, width=width)
        super().__init__(grid, diffusivity=diffusivity, dt=dt, source=source, substeps=substeps)
