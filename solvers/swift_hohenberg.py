"""The Swift-Hohenberg equation."""

from torch import Tensor

from solvers.fourier import on
from solvers.grid import Grid
from solvers.semilinear import Scheme, SemiLinear
from solvers.spectral import Basis, eigenfunctions


class SwiftHohenberg(SemiLinear):
    """u_t = r u - (k^2 + Lap)^2 u + a u^2 + c u^3: patterns of the wave number k.

    [Swift & Hohenberg 1977, Phys. Rev. A 15]. `rate` r, `wavenumber` k in 1 / length, `quadratic`
    a and `cubic` c, which should be negative. Axes are periodic or have Neumann sides, u_n = 0 and
    u_nnn = 0. De-aliased by the 1/2 rule. Decreases the integral of
    ((k^2 + Lap) u)^2 / 2 - r u^2 / 2 - a u^3 / 3 - c u^4 / 4.
    """

    fields, fraction = ("u",), 1 / 2

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        rate: float | Tensor = 0.7,
        wavenumber: float = 1.0,
        quadratic: float = 1.0,
        cubic: float = -1.0,
        substeps: int = 1,
        scheme: Scheme | None = None,
    ):
        if any(side in ("dirichlet", "open") for axis in grid.axes for side in axis.boundary):
            raise ValueError(f"SwiftHohenberg has periodic and neumann sides, got {grid.boundary}.")
        self.rate, self.wavenumber = rate, wavenumber
        self.quadratic, self.cubic = quadratic, cubic
        super().__init__(grid, dt=dt, substeps=substeps, scheme=scheme)
        self._kept = self.fourier.kept(self.fraction)

    def make_basis(self, grid: Grid) -> Basis:
        return eigenfunctions(grid)

    def make_linear(self) -> Tensor:
        band = self.wavenumber**2 + self.basis.laplacian
        return self.per_sample(self.rate) - band.square()

    def nonlinear(self, v: Tensor) -> Tensor:
        kept = on(self._kept, v.real)
        u = self.fourier.inverse(v * kept)
        return self.fourier.transform((self.quadratic + self.cubic * u) * u.square()) * kept
