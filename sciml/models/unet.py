"""U-Net with residual blocks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from sciml.layers import BoundaryConv, BoundaryConvTranspose
from sciml.layers.boundary_conv import CONV
from sciml.models.card import Card
from solvers.grid import Grid


class UNet(nn.Module):
    """U-Net [Ronneberger et al. 2015, arXiv:1505.04597] in its present-day form for PDEs [Gupta &
    Brandstetter 2022, arXiv:2209.15616, "Unetmod"].

        down     `blocks` residual blocks at each level, then a convolution of stride 2
        middle   two residual blocks
        up       `blocks` + 1 residual blocks at each level, each on [v, skip], then a transposed
                 convolution of stride 2

    between a first and a last convolution over 3 points per axis. Every result of the way down is
    a skip of the way up, those of the strided convolutions and of the first one too. A block is
    v -> W v + C s(N(C s(N(v)))) with 3-point convolutions C, s = gelu, N one normalisation over
    all channels and points with a gain per channel, and W a linear map at each point where the
    number of channels changes. Level l has `width` * multipliers[l] channels.

    Boundary conditions by padding, axis by axis, in all convolutions (`BoundaryConv`). Level l has
    ceil(n / 2^l) points per axis, on any grid.

    Multipliers (1, 2, 4, 16), a width of 64 and two blocks are the published form, 144,256,193
    parameters for one field in two dimensions. Where we differ from its code: padding is not
    always by zeros, the size of a grid need not be divisible, and the last normalisation has one
    group, not eight.
    There is no attention, and time or parameters enter as channels only.

    Input [b, in_channels, *space], output [b, out_channels, *space]. The stencils know points and
    not lengths, so that a network trained on one grid means something else on a finer one.
    """

    card = Card("Gupta & Brandstetter 2022, arXiv:2209.15616")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        width: int = 16,
        multipliers: Sequence[int] = (1, 2, 4, 8),
        blocks: int = 1,
    ):
        super().__init__()
        if grid.ndim != ndim:
            raise ValueError(f"UNet: ndim={ndim}, but the grid has {grid.ndim} axes.")
        if not multipliers or min(width, blocks, *multipliers) < 1:
            raise ValueError(
                f"UNet: width={width}, blocks={blocks} and multipliers={tuple(multipliers)}, one "
                "for each level, must be at least 1."
            )
        self.in_channels, self.ndim = in_channels, ndim
        channels = [width * m for m in multipliers]
        above = [width, *channels[:-1]]  # channels in which a level is entered and left
        last = channels[-1]

        def block(ins: int, outs: int) -> nn.Module:
            return ResidualBlock(ins, outs, grid)

        self.first = BoundaryConv(in_channels, width, grid)
        self.down = nn.ModuleList(
            nn.ModuleList([block(b, c), *(block(c, c) for _ in range(blocks - 1))])
            for b, c in zip(above, channels, strict=True)
        )
        self.coarsen = nn.ModuleList(BoundaryConv(c, c, grid, stride=2) for c in channels[:-1])
        self.middle = nn.Sequential(block(last, last), block(last, last))
        self.up = nn.ModuleList(
            nn.ModuleList([*(block(2 * c, c) for _ in range(blocks)), block(c + b, b)])
            for b, c in zip(above, channels, strict=True)
        )
        self.refine = nn.ModuleList(BoundaryConvTranspose(c, c, grid) for c in above[1:])
        self.norm = nn.GroupNorm(1, width)
        self.last = BoundaryConv(width, out_channels, grid)

    def forward(self, a: Tensor) -> Tensor:
        if a.ndim != 2 + self.ndim or a.shape[1] != self.in_channels:
            raise ValueError(
                f"UNet: expected [batch, {self.in_channels} channels, {self.ndim} axes of points], "
                f"got shape {tuple(a.shape)}."
            )
        v = self.first(a)
        skips = [v]
        for level, blocks in enumerate(self.down):
            if level > 0:
                v = self.coarsen[level - 1](v)
                skips.append(v)
            for block in blocks:
                v = block(v)
                skips.append(v)
        v = self.middle(v)
        for level in reversed(range(len(self.up))):
            for block in self.up[level]:
                v = block(torch.cat((v, skips.pop()), dim=1))
            if level > 0:
                v = self.refine[level - 1](v, skips[-1].shape[2:])
        return self.last(gelu(self.norm(v)))


class ResidualBlock(nn.Module):
    """v -> W v + C s(N(C s(N(v)))), from [b, in_channels, *space] to [b, out_channels, *space]."""

    def __init__(self, in_channels: int, out_channels: int, grid: Grid):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, in_channels), nn.GroupNorm(1, out_channels)
        self.conv1 = BoundaryConv(in_channels, out_channels, grid)
        self.conv2 = BoundaryConv(out_channels, out_channels, grid)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else CONV[grid.ndim](in_channels, out_channels, 1)

    def forward(self, v: Tensor) -> Tensor:
        h = self.conv1(gelu(self.norm1(v)))
        return self.skip(v) + self.conv2(gelu(self.norm2(h)))
