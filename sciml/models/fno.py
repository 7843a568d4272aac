"""Fourier neural operator in one, two and three dimensions."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.layers import DenseWeight, FourierBasis, FourierBlock, Perceptron
from sciml.layers.coordinates import with_coordinates
from sciml.layers.fusion import is_unobserved
from sciml.models.card import Card
from solvers.grid import Grid


class FNO(nn.Module):
    """Fourier neural operator [Li et al. 2021, ICLR, arXiv:2010.08895], in its present-day form.

        v_0 = P(a, x),    v <- s( M( s(K v + W v) ) + g v )  for each of `depth` blocks,    u = Q v

    K is a `SpectralConv` with `modes` modes per axis and W a linear map at each point; M (width ->
    width/2 -> width), the lifting P and the projection Q are two-layer perceptrons at each point,
    g is a gate per channel and s = GELU, left out in the last block. This is the architecture of
    neuraloperator 2.0.0, whose weights can be copied in; on odd grids that library's transform is
    wrong and this one is not.

    What the grid's boundary conditions decide: a non-periodic axis gets its coordinate, scaled to
    [0, 1], as an input channel and a period of 1 + `padding` lengths; a periodic axis gets
    neither, so the operator is translation-equivariant along it.

    Input [b, in_channels, *space] on `grid` at any resolution, output [b, out_channels, *space].
    On grids coarser than 2 `modes` points the missing modes are left out. The grid must be
    uniform. `weight` makes the weight of each K (see `SpectralConv`). Good start: width=32,
    modes=12, depth=4.
    """

    card = Card("Li et al. 2021, arXiv:2010.08895")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid | None = None,
        width: int = 32,
        modes: int | Sequence[int] = 12,
        depth: int = 4,
        padding: float = 0.25,
        weight: Callable[[Sequence[int], int, int], nn.Module] = DenseWeight,
    ):
        super().__init__()
        self.grid = grid if grid is not None else Grid.box((2,) * ndim)
        self.modes = (modes,) * ndim if isinstance(modes, int) else tuple(modes)
        if self.grid.ndim != ndim or len(self.modes) != ndim:
            raise ValueError(
                f"FNO: ndim={ndim}, but the grid has {self.grid.ndim} axes and modes={self.modes}."
            )
        if min(self.modes) < 1 or width < 2 or depth < 1 or not 0 <= padding < torch.inf:
            raise ValueError(
                f"FNO: modes={self.modes} and depth={depth} must be at least 1, width={width} at "
                f"least 2 and padding={padding} not negative."
            )
        if grid is not None and any(2 * m > n for m, n in zip(self.modes, grid.shape, strict=True)):
            raise ValueError(
                f"FNO: modes={self.modes} needs at least {tuple(2 * m for m in self.modes)} "
                f"points, the data have {grid.shape}; lower model.modes or raise the resolution."
            )
        self.in_channels = in_channels
        self.period = tuple(1.0 if axis.is_periodic else 1 + padding for axis in self.grid.axes)
        coordinates = sum(not axis.is_periodic for axis in self.grid.axes)
        self.lifting = Perceptron(in_channels + coordinates, 2 * width, width)
        self.blocks = nn.ModuleList(FourierBlock(width, self.modes, weight) for _ in range(depth))
        self.projection = Perceptron(width, 2 * width, out_channels)

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.grid.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"FNO: expected [batch, {self.in_channels} channels, {self.grid.ndim} axes of "
                f"points], got shape {tuple(a.shape)}."
            )
        grid = self.grid.resized(a.shape[2:])
        basis = FourierBasis(grid, self.modes, self.period, like=a)
        v = a.movedim((0, 1), (-2, -1))  # [*space, b, c]
        walls = tuple(axis for axis in grid.axes if not axis.is_periodic)
        v = self.lifting(with_coordinates(v, grid, walls))
        # a graph or a hook may keep what it sees
        spend = not torch.is_grad_enabled() and is_unobserved(self.lifting, *self.blocks)
        for i, block in enumerate(self.blocks):
            v = block(v, basis, last=i == len(self.blocks) - 1, spend=spend)
        return self.projection(v).movedim((-2, -1), (0, 1)).contiguous()
