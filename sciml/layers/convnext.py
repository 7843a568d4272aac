"""The convolutional block of the skip connections of scOT."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.layers.conditional_norm import ConditionalLayerNorm
from sciml.layers.sided_conv import SidedConv


class ConvNeXtBlock(nn.Module):
    """x + gamma M( N( K x ) ) [Liu et al. 2022, arXiv:2201.03545], the norm N conditioned on t.

    K is a convolution of each channel with 7 points per axis, M a perceptron with 4 times the
    channels and GELU, gamma a factor per channel, 1e-6 at first. x is [b, *space, channels].
    """

    def __init__(self, channels: int, periodic: Sequence[bool]):
        super().__init__()
        self.convolution = SidedConv(channels, channels, 7, periodic, groups=channels)
        self.norm = ConditionalLayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.gamma = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        y = self.convolution(x.movedim(-1, 1)).movedim(1, -1)
        return torch.addcmul(x, self.gamma, self.mlp(self.norm(y, t)))
