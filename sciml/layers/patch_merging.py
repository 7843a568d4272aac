"""From a grid of tokens to one with half as many points per axis, and back."""

from torch import Tensor, nn

from sciml.layers.conditional_norm import ConditionalLayerNorm
from sciml.layers.windows import join_windows, split_windows


class PatchMerging(nn.Module):
    """The 2^ndim neighbours of a box, side by side, to twice the channels: N(W x).

    [b, *space, c] -> [b, *space / 2, 2c]; W has no constant and N is conditioned on t [b, 1].
    """

    def __init__(self, channels: int, ndim: int):
        super().__init__()
        self.box = (2,) * ndim
        self.reduction = nn.Linear(2**ndim * channels, 2 * channels, bias=False)
        self.norm = ConditionalLayerNorm(2 * channels)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        half = [n // 2 for n in x.shape[1:-1]]
        x = self.reduction(split_windows(x, self.box).flatten(2))
        return self.norm(x.view(x.shape[0], *half, -1), t)


class PatchUnmerging(nn.Module):
    """Each token to a box of 2^ndim with half the channels, V N(W x).

    [b, *space, c] -> [b, 2 * space, c / 2]; V and W have no constants.
    """

    def __init__(self, channels: int, ndim: int):
        super().__init__()
        self.box, half = (2,) * ndim, channels // 2
        self.expansion = nn.Linear(channels, 2**ndim * half, bias=False)
        self.norm = ConditionalLayerNorm(half)
        self.mixing = nn.Linear(half, half, bias=False)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        double = [2 * n for n in x.shape[1:-1]]
        x = self.expansion(x).flatten(1, -2)
        x = x.unflatten(-1, (2 ** len(self.box), -1))
        return self.mixing(self.norm(join_windows(x, self.box, double), t))
