"""Convolutions that continue a field beyond its grid as the boundary conditions say."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from solvers.grid import Axis, Grid

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class BoundaryConv(nn.Module):
    """A convolution over 3 points per axis of a field [b, in_channels, *space].

    The point beyond a side of the grid has the value that its boundary condition suggests:

        periodic    that at the other end
        dirichlet   zero
        neumann     the mirror image: of the next point but one where the wall is a point
                    (`nodes`), of the last point where the wall is half a cell away
        open        that of the last point

    Axes, and their two sides, may differ. A `stride` of 2 keeps every other point, the first one
    among them: n points become ceil(n / 2). Works on any number of points, of `grid` only the
    boundary conditions and the position of points matter. A wider stencil is not here.
    """

    def __init__(
        self, in_channels: int, out_channels: int, grid: Grid, *, stride: int = 1, bias: bool = True
    ):
        super().__init__()
        self.axes = grid.axes
        padding = tuple(int(_is_zero(axis)) for axis in grid.axes)
        self.conv = CONV[grid.ndim](in_channels, out_channels, 3, stride, padding, bias=bias)

    def forward(self, u: Tensor) -> Tensor:
        return self.conv(_continued(u, self.axes))


class BoundaryConvTranspose(nn.Module):
    """A transposed convolution of stride 2 over 4 points per axis, from ceil(n / 2) to n points.

    Coarse point i adds to the fine points 2 i - 1 .. 2 i + 2; the weights 1/2, 1, 1/2, 0 are
    linear interpolation. Where the boundary condition is not zero the coarse field is first
    continued by one point beyond each side, as in `BoundaryConv`, so that on periodic axes the
    prolongation wraps around.
    """

    def __init__(self, in_channels: int, out_channels: int, grid: Grid, *, bias: bool = True):
        super().__init__()
        self.axes = grid.axes
        cut = tuple(1 if _is_zero(axis) else 3 for axis in grid.axes)  # from both ends of 2 m + 2
        self.conv = TRANSPOSED[grid.ndim](in_channels, out_channels, 4, 2, cut, bias=bias)

    def forward(self, u: Tensor, shape: Sequence[int]) -> Tensor:
        """`shape` is that of the fine grid [n, ..]."""
        u = self.conv(_continued(u, self.axes))
        return u[(..., *(slice(n) for n in shape))]


def _is_zero(axis: Axis) -> bool:
    """Whether the convolution itself can pad the axis."""
    return axis.boundary == ("dirichlet", "dirichlet")


def _continued(u: Tensor, axes: Sequence[Axis]) -> Tensor:
    """u with one more point on each side of every axis that is not zero on both sides."""
    for dim, axis in enumerate(axes, start=2):
        if not _is_zero(axis):
            n = u.shape[dim]
            mirror = min(1, n - 1) if axis.points == "nodes" else 0
            lower = _beyond(u, dim, axis.boundary[0], last=0, mirror=mirror, opposite=n - 1)
            upper = _beyond(u, dim, axis.boundary[1], n - 1, n - 1 - mirror, 0)
            u = torch.cat((lower, u, upper), dim)
    return u


def _beyond(u: Tensor, dim: int, side: str, last: int, mirror: int, opposite: int) -> Tensor:
    if side == "dirichlet":
        return torch.zeros_like(u.narrow(dim, last, 1))
    point = {"periodic": opposite, "neumann": mirror, "open": last}[side]
    return u.narrow(dim, point, 1)
