"""The Kuramoto-Sivashinsky equation."""

from torch import Tensor

from solvers.fourier import on
from solvers.grid import Grid
from solvers.semilinear import Scheme, SemiLinear


class KuramotoSivashinsky(SemiLinear):
    """Flame fronts and falling films, chaotic on long periods, in 1 to 3 dimensions:

        u_t + c |grad u|^2 / 2 + d Lap u + h Lap^2 u = 0        integral form
        u_t + c (u^2 / 2)_x + d u_xx + h u_xxxx = 0             `conservative`, 1-D: its derivative

    `convection` c, `diffusion` d and `hyperdiffusion` h are 1 usually. The conservative form keeps
    the mean of u. De-aliased by the 2/3 rule. With unit coefficients nearby solutions part like
    exp(0.09 t) on long intervals, so compare statistics beyond some tens of time units.
    """

    fields = ("u",)

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        conservative: bool = False,
        convection: float = 1.0,
        diffusion: float = 1.0,
        hyperdiffusion: float = 1.0,
        substeps: int = 1,
        scheme: Scheme | None = None,
    ):
        if conservative and grid.ndim != 1:
            raise ValueError("the conservative form of KuramotoSivashinsky is one-dimensional.")
        self.conservative, self.convection = conservative, convection
        self.diffusion, self.hyperdiffusion = diffusion, hyperdiffusion
        super().__init__(grid, dt=dt, substeps=substeps, scheme=scheme)
        self._kept = self.fourier.kept(self.fraction) + 0j  # products with spectra convert nothing
        self._gradient = [self.fourier.derivative(axis) * self._kept for axis in range(grid.ndim)]
        self._flux = -0.5 * convection * self._gradient[0]
        self._half = -0.5 * convection * self._kept

    def make_linear(self) -> Tensor:
        laplacian = self.fourier.laplacian
        return -self.diffusion * laplacian - self.hyperdiffusion * laplacian.square()

    def nonlinear(self, v: Tensor) -> Tensor:
        if self.conservative:
            u = self.fourier.inverse(v)  # in one dimension the band has nothing to cut off
            return self.fourier.transform(u * u) * on(self._flux, v)
        slopes = (self.fourier.inverse(v * on(d, v)) for d in self._gradient)
        return self.fourier.transform(sum(s * s for s in slopes)) * on(self._half, v)
