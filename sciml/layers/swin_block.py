"""The block of Swin V2 with norms that are told the lead time."""

from collections.abc import Sequence

from torch import Tensor, nn

from sciml.layers.conditional_norm import ConditionalLayerNorm
from sciml.layers.window_attention import WindowAttention


class SwinBlock(nn.Module):
    """x <- x + N_t A x,  x <- x + N_t M x  with attention A and a perceptron M; the norms come last
    [Liu et al. 2022, Swin V2, arXiv:2111.09883].

    M has 4 times the channels and GELU. x is [b, *space, channels] and t [b, 1].
    """

    def __init__(
        self, channels: int, heads: int, window: int, shift: int, periodic: Sequence[bool]
    ):
        super().__init__()
        self.attention = WindowAttention(channels, heads, window, shift, periodic)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )
        self.norms = nn.ModuleList(ConditionalLayerNorm(channels) for _ in range(2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        x = x + self.norms[0](self.attention(x), t)
        return x + self.norms[1](self.mlp(x), t)
