"""What the operator networks of branch and trunk have in common."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from solvers.grid import Grid


class BranchTrunk(nn.Module, ABC):
    """u_o(x) = t_o0(x) + sum_k b_ok(a) t_ok(x),    o = 1 .. out_channels.

    The coefficients b depend on the input function, the functions t on the place, so the outputs
    of one model lie in an affine space of p dimensions, p the number of functions. `forward` gives
    u at the points of the input's grid, `at` anywhere. Points that lie outside the domain are not
    refused; there the model is extrapolated.
    """

    def __init__(self, in_channels: int, ndim: int, grid: Grid):
        super().__init__()
        if grid.ndim != ndim:
            raise ValueError(
                f"{type(self).__name__}: ndim={ndim}, but the grid has {grid.ndim} axes."
            )
        self.in_channels, self.grid = in_channels, grid

    @abstractmethod
    def coefficients(self, a: Tensor, grid: Grid) -> Tensor:
        """b of a [b, in_channels, *grid.shape]: [b, out_channels or 1, p], 1 for shared by all."""

    @abstractmethod
    def functions(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """At points [..., ndim] t [..., out_channels or 1, p] and t_0 [... or 1, out_channels]."""

    def forward(self, a: Tensor) -> Tensor:
        """u [b, out_channels, *space] on the grid of a [b, in_channels, *space]."""
        grid = self._grid(a)
        points = grid.mesh(a.dtype).to(a.device).flatten(1).transpose(0, 1)
        return self._sum(self.coefficients(a, grid), points).unflatten(2, grid.shape)

    def at(self, a: Tensor, points: Tensor) -> Tensor:
        """u [b, out_channels, n] at points in the grid's coordinates: [n, ndim], the same for all
        samples, or [b, n, ndim], each sample at its own.
        """
        grid = self._grid(a)
        expected = f"[n, {grid.ndim}] or [{len(a)}, n, {grid.ndim}]"
        if (
            points.ndim not in (2, 3)
            or points.shape[-1] != grid.ndim
            or (points.ndim == 3 and len(points) != len(a))
        ):
            raise ValueError(
                f"{type(self).__name__}: expected points {expected}, got {tuple(points.shape)}."
            )
        return self._sum(self.coefficients(a, grid), points)

    def _sum(self, b: Tensor, points: Tensor) -> Tensor:
        t, offset = self.functions(points)
        samples = "b" if points.ndim == 3 else ""
        u = torch.einsum(f"bcp,{samples}ncp->bcn", b, t)
        return u + offset.transpose(-1, -2)

    def _grid(self, a: Tensor) -> Grid:
        if a.ndim != 2 + self.grid.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"{type(self).__name__}: expected [batch, {self.in_channels} channels, "
                f"{self.grid.ndim} axes of points], got shape {tuple(a.shape)}."
            )
        return self.grid.resized(a.shape[2:])
