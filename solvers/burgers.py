"""Burgers' equation."""

import torch
from torch import Tensor

from solvers.fourier import on
from solvers.grid import Grid
from solvers.semilinear import Scheme, SemiLinear


class Burgers(SemiLinear):
    """u_t + c (u . grad) u = nu Lap u on a periodic grid, u with a component per dimension.

    In one dimension in conservation form, u_t + c (u^2 / 2)_x = nu u_xx. De-aliased by the 2/3
    rule. `viscosity` nu in length^2 / time, a number or [b]; `convection` c is 1 usually. A shock
    is about nu / |c u| wide and needs a few points: below nu ~ |c u| h take finite volumes.
    (PDEBench's nu is ours times pi.)
    """

    def __init__(
        self,
        grid: Grid,
        *,
        viscosity: float | Tensor,
        dt: float,
        convection: float = 1.0,
        substeps: int = 1,
        scheme: Scheme | None = None,
    ):
        if not (torch.as_tensor(viscosity) >= 0).all():
            raise ValueError(f"viscosity={viscosity} must not be negative.")
        self.viscosity, self.convection = viscosity, convection
        self.fields = ("u", "v", "w")[: grid.ndim]
        super().__init__(grid, dt=dt, substeps=substeps, scheme=scheme)
        self._kept = self.fourier.kept(self.fraction) + 0j  # products with spectra convert nothing
        self._gradient = [self.fourier.derivative(axis) * self._kept for axis in range(grid.ndim)]
        self._flux = -0.5 * convection * self._gradient[0]
        self._outer = -convection * self._kept

    def make_linear(self) -> Tensor:
        return self.per_sample(self.viscosity) * self.fourier.laplacian

    def nonlinear(self, v: Tensor) -> Tensor:
        if self.grid.ndim == 1:  # the band has nothing to cut off
            u = self.fourier.inverse(v)
            return self.fourier.transform(u * u) * on(self._flux, v)
        u = self.fourier.inverse(v * on(self._kept, v))
        slopes = (self.fourier.inverse(v * on(d, v)) for d in self._gradient)
        advected = sum(u[:, axis, None] * slope for axis, slope in enumerate(slopes))
        return self.fourier.transform(advected) * on(self._outer, v)


def cole_hopf(x: Tensor, time: float, viscosity: float, period: float = 1.0) -> Tensor:
    """The solution of the 1-D equation that begins with u = sin(2 pi x / period), [len(x)].

    By the Cole-Hopf transformation the heat equation, here with the initial value
    exp(c (cos kx - 1)), c = 1 / (2 nu k), whose Fourier coefficients are modified Bessel functions:

        u = 4 nu k sum_n n e_n I_n(c) sin(n kx) / (I_0(c) + 2 sum_n e_n I_n(c) cos(n kx)),
        e_n = exp(-nu n^2 k^2 t)          [Benton & Platzman 1972, Q. Appl. Math. 30, entry 1]

    Needs c below about 700.
    """
    from scipy.special import ive  # scaled by exp(-c): ratios do not overflow

    k = 2 * torch.pi / period
    c = 1 / (2 * viscosity * k)
    n = torch.arange(1, 60 + int(4 * c**0.5 + c / 2), dtype=torch.float64)
    weight = torch.as_tensor(ive(n.numpy(), c)) * torch.exp(-viscosity * (n * k) ** 2 * time)
    angle = torch.outer(n * k, x.double())
    top = (n * weight) @ angle.sin()
    return 4 * viscosity * k * top / (ive(0, c) + 2 * weight @ angle.cos())
