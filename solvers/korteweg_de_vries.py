"""The Korteweg-de Vries equation."""

import torch
from torch import Tensor

from solvers.fourier import on
from solvers.grid import Grid
from solvers.semilinear import Scheme, SemiLinear


class KortewegDeVries(SemiLinear):
    """u_t + c u u_x + d u_xxx + h u_xxxx = 0 on a periodic interval, c = 6 and d = 1 usually.

    De-aliased by the 2/3 rule. Conserves the integral of u, and for h = 0 that of u^2 up to the
    error in time. `hyperviscosity` h is zero unless asked for: the equation needs none.
    """

    fields = ("u",)

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        convection: float = 6.0,
        dispersion: float = 1.0,
        hyperviscosity: float = 0.0,
        substeps: int = 1,
        scheme: Scheme | None = None,
    ):
        if grid.ndim != 1:
            raise ValueError(f"KortewegDeVries is one-dimensional, the grid has {grid.ndim} axes.")
        self.convection, self.dispersion = convection, dispersion
        self.hyperviscosity = hyperviscosity
        super().__init__(grid, dt=dt, substeps=substeps, scheme=scheme)
        self._slope = -0.5 * convection * self.fourier.derivative(0)

    def make_linear(self) -> Tensor:
        derivative = self.fourier.derivative
        return -self.dispersion * derivative(0, 3) - self.hyperviscosity * derivative(0, 4)

    def nonlinear(self, v: Tensor) -> Tensor:
        u = self.fourier.inverse(v)
        return on(self._slope, v) * self.fourier.transform(u * u)


def soliton(x: Tensor, time: float, speed: float, center: float, period: float) -> Tensor:
    """u = (s / 2) sech^2(sqrt(s) (x - center - s t) / 2), solving u_t + 6 u u_x + u_xxx = 0.

    Exact on the line; on a period much longer than 1 / sqrt(s) up to exp(-sqrt(s) period / 2).
    """
    distance = (x - center - speed * time + period / 2) % period - period / 2
    return speed / 2 / torch.cosh(speed**0.5 / 2 * distance) ** 2
