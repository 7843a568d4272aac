"""The Kuramoto-Sivashinsky equation."""

from torch import Tensor

from solvers.fourier import on
from solvers.grid import Grid
from solvers.semilinear import Scheme, SemiLinear


class KuramotoSivashinsky(SemiLinear):
    """Flame fronts and falling films, chaotic on long periods, in 1 to 3 dimensions:

        u_t + |grad u|^2 / 2 + Lap u + Lap^2 u = 0            integral form
        u_t + (u^2 / 2)_x + u_xx + u_xxxx = 0                 `conservative`, 1-D: its derivative

    The conservative form keeps the mean of u. De-aliased by the 2/3 rule. Nearby solutions part
    like exp(0.09 t) on long intervals, so compare statistics beyond some tens of time units.
    """

    fields = ("u",)

    def __init__(
        self,
        grid: Grid,
        *,
        dt: float,
        conservative: bool = False,
        substeps: int = 1,
        scheme: Scheme | None = None,
    ):
        if conservative and grid.ndim != 1:
            raise ValueError("the conservative form of KuramotoSivashinsky is one-dimensional.")
        self.conservative = conservative
        super().__init__(grid, dt=dt, substeps=substeps, scheme=scheme)
        self._kept = self.fourier.kept(self.fraction)
        self._gradient = [self.fourier.derivative(axis) for axis in range(grid.ndim)]

    def make_linear(self) -> Tensor:
        laplacian = self.fourier.laplacian
        return -laplacian - laplacian.square()

    def nonlinear(self, v: Tensor) -> Tensor:
        kept = on(self._kept, v.real)
        v = v * kept
        if self.conservative:
            square = self.fourier.inverse(v).square()
            return -0.5 * on(self._gradient[0], v) * self.fourier.transform(square) * kept
        slopes = (self.fourier.inverse(on(d, v) * v) for d in self._gradient)
        return -0.5 * self.fourier.transform(sum(s.square() for s in slopes)) * kept
