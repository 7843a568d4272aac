"""A convolution of unbounded reach: one V-cycle of multigrid with learnt stencils."""

from collections.abc import Sequence

from torch import Tensor, nn

from sciml.layers.boundary_conv import BoundaryConv, BoundaryConvTranspose
from solvers.grid import Grid


class MultigridConv(nn.Module):
    """A linear map f -> u that runs through the levels l = 0 .. L - 1 of a multigrid V-cycle:

        down     u_0 <- S f_0,  f_0 = f                   the first step at level 0
                 u_l <- u_l + S (f_l - A u_l)             every further step
                 u_{l+1} <- Pi u_l,    f_{l+1} <- R f_l   or R (f_l - A u_l)
        up       u_l <- u_l + P u_{l+1},  then steps as above

    and returns u_0. A (u to f), S (f to u), Pi and R (stride 2) are convolutions over 3 points
    per axis, P a transposed one over 4; each step has its own A and S. `iterations` gives for each
    level the numbers of steps on the way down and up. `restrict_residual` sends the residual
    to the coarser level, as multigrid does, instead of f itself. With `bias` the A and S of the
    steps are affine; transfers never are.

    With A = the stencil of a PDE, S = omega / diagonal, Pi = 0, R = full weighting, P = linear
    interpolation and `restrict_residual` it is the V-cycle of that PDE.

    Shapes: f [b, in_channels, *space] to u [b, out_channels, *space], on any grid; level l has
    ceil(n / 2^l) points per axis. Boundary conditions, also of P, as in `BoundaryConv`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        grid: Grid,
        iterations: Sequence[Sequence[int]],
        *,
        bias: bool = False,
        restrict_residual: bool = False,
    ):
        super().__init__()
        f, u = in_channels, out_channels
        levels = range(len(iterations))

        def steps(count: int) -> nn.ModuleList:
            return nn.ModuleList(_Step(f, u, grid, bias) for _ in range(count))

        self.first = BoundaryConv(f, u, grid, bias=bias)
        self.pre = nn.ModuleList(steps(iterations[i][0] - (i == 0)) for i in levels)
        self.restrictions = nn.ModuleList(
            _Restriction(f, u, grid, restrict_residual) for _ in levels[1:]
        )
        self.prolongations = nn.ModuleList(
            BoundaryConvTranspose(u, u, grid, bias=False) for _ in levels[1:]
        )
        self.post = nn.ModuleList(steps(iterations[i][1]) for i in levels[:-1])

    def forward(self, f: Tensor) -> Tensor:
        u, below = self.first(f), []
        for level, steps in enumerate(self.pre):
            if level > 0:
                below.append((u, f))
                u, f = self.restrictions[level - 1](u, f)
            for step in steps:
                u = step(u, f)
        for prolongation, steps in zip(
            reversed(self.prolongations), reversed(self.post), strict=True
        ):
            coarse, (u, f) = u, below.pop()
            u = u + prolongation(coarse, u.shape[2:])
            for step in steps:
                u = step(u, f)
        return u


class _Step(nn.Module):
    """u + S (f - A u)"""

    def __init__(self, f: int, u: int, grid: Grid, bias: bool):
        super().__init__()
        self.operator = BoundaryConv(u, f, grid, bias=bias)
        self.smoother = BoundaryConv(f, u, grid, bias=bias)

    def forward(self, u: Tensor, f: Tensor) -> Tensor:
        return u + self.smoother(f - self.operator(u))


class _Restriction(nn.Module):
    """Pi u and R f, or Pi u and R (f - A u)"""

    def __init__(self, f: int, u: int, grid: Grid, residual: bool):
        super().__init__()
        self.solution = BoundaryConv(u, u, grid, stride=2, bias=False)
        self.source = BoundaryConv(f, f, grid, stride=2, bias=False)
        self.operator = BoundaryConv(u, f, grid, bias=False) if residual else None

    def forward(self, u: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        if self.operator is not None:
            f = f - self.operator(u)
        return self.solution(u), self.source(f)
