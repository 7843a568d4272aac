"""Incompressible two-dimensional flow on a torus, in vorticity."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from solvers.band import Band
from solvers.fourier import Fourier, on
from solvers.grid import Grid
from solvers.semilinear import Scheme, SemiLinear

Forcing = Callable[[Grid], Tensor]
CHUNK = 2**17  # points of the samples whose products are taken together: they fit into the cache


class NavierStokes(SemiLinear):
    """w_t + u . grad w = nu Lap w - mu w + f,   u = (psi_y, -psi_x),   -Lap psi = w.

    `viscosity` nu in length^2 / time, a number or [b]; `drag` mu in 1 / time; `forcing` maps the
    grid to f [x, y] in 1 / time^2, the curl of a body force, and is None for a decaying flow. The
    mean of w is conserved and the mean velocity is zero. De-aliased by the 2/3 rule; with
    `mask="product"` only the product is, not its factors, as in the published script of the FNO
    paper, whose solutions differ for that.
    """

    fields = ("vorticity",)

    def __init__(
        self,
        grid: Grid,
        *,
        viscosity: float | Tensor,
        dt: float,
        drag: float = 0.0,
        forcing: Forcing | None = None,
        mask: str = "both",
        circular: bool = False,
        substeps: int = 1,
        scheme: Scheme | None = None,
    ):
        if grid.ndim != 2:
            raise ValueError(f"NavierStokes is two-dimensional, the grid has {grid.ndim} axes.")
        if mask not in ("both", "product"):
            raise ValueError(f"mask={mask!r} must be 'both' or 'product'.")
        if not (torch.as_tensor(viscosity) >= 0).all():
            raise ValueError(f"viscosity={viscosity} must not be negative.")
        self.viscosity, self.drag, self.mask = viscosity, drag, mask
        self._curl = None if forcing is None else forcing(grid).double()
        super().__init__(grid, dt=dt, substeps=substeps, scheme=scheme)
        self._kept = self.fourier.kept(self.fraction, circular=circular) + 0j
        dx, dy = (self.fourier.derivative(axis) for axis in range(2))
        # velocity and gradient of the vorticity from its spectrum: u, v, w_x, w_y
        parts = torch.broadcast_tensors(*_flow(self.fourier), dx, dy)
        self._factors = torch.stack(parts) * (self._kept if mask == "both" else 1)
        self._force = None if self._curl is None else self.fourier.transform(self._curl)

    def is_band_limited(self) -> bool:
        if self.mask == "product":
            return False
        if self._curl is None:
            return True
        _, far = Band(self.basis, self.fraction).split(self.basis.transform(self._curl))
        return not bool(far.abs().max() > 1e-12 * self._curl.abs().sum())

    def make_linear(self) -> Tensor:
        return self.per_sample(self.viscosity) * self.fourier.laplacian - self.drag

    def nonlinear(self, v: Tensor) -> Tensor:
        size = max(1, CHUNK // math.prod(self.grid.shape))
        return torch.cat([self._advected(part) for part in v.split(size)])

    def _advected(self, v: Tensor) -> Tensor:
        u = self.fourier.inverse(v * on(self._factors, v))  # [b, 4, x, y]
        product = torch.addcmul(u[:, 0] * u[:, 2], u[:, 1], u[:, 3])
        slope = self.fourier.transform(product[:, None]) * on(-self._kept, v)
        return slope if self._force is None else slope + on(self._force, v)

    def velocity(self, w: Tensor) -> Tensor:
        """u [b, 2, x, y] from the vorticity w [b, 1, x, y]."""
        v = self.basis.transform(w)
        return self.basis.inverse(v * on(torch.stack(_flow(self.basis)), v))


def _flow(fourier: Fourier | Band) -> tuple[Tensor, Tensor]:
    """The two components of the velocity from the spectrum of the vorticity, [*modes] each."""
    dx, dy = (fourier.derivative(axis) for axis in range(2))
    return -dy * fourier.inverse_laplacian, dx * fourier.inverse_laplacian


class Kolmogorov:
    """f = -A k cos(k y): the curl of the force (A sin(k y), 0), k = 2 pi `waves` / length."""

    def __init__(self, waves: int = 4, amplitude: float = 1.0):
        self.waves, self.amplitude = waves, amplitude

    def __call__(self, grid: Grid) -> Tensor:
        k = 2 * torch.pi * self.waves / grid.axes[1].length
        return -self.amplitude * k * torch.cos(k * grid.mesh()[1])


class DiagonalForcing:
    """f = A (sin(2 pi (x + y)) + cos(2 pi (x + y))), A = 0.1 in the FNO paper, section 5.3."""

    def __init__(self, amplitude: float = 0.1):
        self.amplitude = amplitude

    def __call__(self, grid: Grid) -> Tensor:
        angle = 2 * torch.pi * grid.mesh().sum(dim=0)
        return self.amplitude * (angle.sin() + angle.cos())
