"""Fourier neural operator as it was first published."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from sciml.layers import FourierBasis, Perceptron, SpectralConv
from sciml.layers.coordinates import with_coordinates
from sciml.models.card import Card
from solvers.grid import Grid


class FNOOriginal(nn.Module):
    """Fourier neural operator in the form of its paper [Li et al. 2021, ICLR, arXiv:2010.08895].

        v_0 = P(a, x),    v <- s( K v + W v )  for each of `depth` blocks,    u = Q v

    P is linear, W linear with a bias at each point, Q a perceptron with `hidden` channels and
    s = GELU, left out in the last block. K keeps the modes -modes .. modes - 1 of every axis but
    the last and 0 .. modes - 1 of the last (2^(d-1) corners of `modes` per axis), has no bias, and
    starts from numbers uniform in [0, 1 / width^2]. The position along every axis is an input
    channel, so the operator is not translation-equivariant; `FNO` is the one to prefer.

    Published sizes: width=64, modes=16 in one dimension (549,569 parameters), width=32, modes=12
    in two (2,368,001). Two things are not as in the published code: positions are those of the
    points, not always linspace(0, 1), and padding is not a number of points: a non-periodic axis
    has a period of 1 + `padding` lengths, on every grid.

    Input [b, in_channels, *space] on `grid` at any resolution, output [b, out_channels, *space].
    """

    card = Card("Li et al. 2021, arXiv:2010.08895, as published")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        width: int = 32,
        modes: int = 12,
        depth: int = 4,
        hidden: int = 128,
        padding: float = 0.0,
    ):
        super().__init__()
        if min(modes, width, depth, hidden) < 1 or not 0 <= padding < torch.inf:
            raise ValueError(
                f"FNOOriginal: modes={modes}, width={width}, depth={depth} and hidden={hidden} "
                f"must be at least 1 and padding={padding} not negative."
            )
        if grid.ndim != ndim or 2 * modes > min(grid.shape):
            raise ValueError(
                f"FNOOriginal: modes={modes} needs {ndim} axes of at least {2 * modes} points, the "
                f"data have {grid.shape}; lower model.modes or raise the resolution."
            )
        self.grid, self.in_channels = grid, in_channels
        self.modes = (modes,) * (ndim - 1) + (modes - 1,)  # FourierBasis keeps 0 .. m of the last
        self.period = tuple(1.0 if axis.is_periodic else 1 + padding for axis in grid.axes)
        self.lifting = nn.Linear(in_channels + ndim, width)
        self.blocks = nn.ModuleList(OriginalBlock(width, self.modes) for _ in range(depth))
        self.projection = Perceptron(width, hidden, out_channels)

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.grid.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"FNOOriginal: expected [batch, {self.in_channels} channels, {self.grid.ndim} axes "
                f"of points], got shape {tuple(a.shape)}."
            )
        grid = self.grid.resized(a.shape[2:])
        basis = FourierBasis(grid, self.modes, self.period, like=a)
        v = a.movedim((0, 1), (-2, -1))  # [*space, b, c]
        v = self.lifting(with_coordinates(v, grid, grid.axes))
        for i, block in enumerate(self.blocks):
            v = block(v, basis)
            if i < len(self.blocks) - 1:
                v = gelu(v)
        return self.projection(v).movedim((-2, -1), (0, 1)).contiguous()


class OriginalBlock(nn.Module):
    """K v + W v."""

    def __init__(self, width: int, modes: Sequence[int]):
        super().__init__()
        self.convolution = SpectralConv(width, width, modes, bias=False)
        self.skip = nn.Linear(width, width)
        nn.init.uniform_(self.convolution.weight.entries, 0, 1 / width**2)

    def forward(self, v: Tensor, basis: FourierBasis) -> Tensor:
        return self.convolution(v, basis) + self.skip(v)
