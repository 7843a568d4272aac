"""The bias of attention as a function of the distance between two points."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

HIDDEN = 512


class PositionBias(nn.Module):
    """The log-spaced continuous position bias of Swin V2 [Liu et al. 2022, arXiv:2111.09883],

        B[h, i, j] = 16 sigmoid( MLP_h( f(x_i - x_j) ) )
        f(d) = sign(d) log(1 + 8 |d| / (w - 1)) / log 8

    x_i are the points of a window and w is `reach`, the points of a whole window along each axis.
    In a smaller window the same distance has the same bias.
    """

    def __init__(self, ndim: int, heads: int, reach: int):
        super().__init__()
        self.reach = reach
        self.mlp = nn.Sequential(
            nn.Linear(ndim, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, heads, bias=False)
        )

    def reset_parameters(self) -> None:
        for i in (0, 2):
            self.mlp[i].reset_parameters()

    def forward(self, window: Sequence[int], round_: Sequence[bool]) -> Tensor:
        """[heads, points, points] for a window; along an axis that `round_` marks it is the whole
        of a period, and the distance is the shorter way.
        """
        like = self.mlp[0].weight
        offsets, numbers = [], torch.zeros(1, 1, dtype=torch.long, device=like.device)
        for w, periodic in zip(window, round_, strict=True):
            d = torch.arange(1 - w, w, device=like.device)  # the table of this axis
            offsets.append((d + w // 2) % w - w // 2 if periodic else d)
            x = torch.arange(w, device=like.device)
            number = x[:, None] - x + w - 1  # where in the table a pair is
            numbers = numbers[:, None, :, None] * (2 * w - 1) + number[:, None]
            numbers = numbers.reshape(numbers.shape[0] * w, -1)
        table = torch.stack(torch.meshgrid(*offsets, indexing="ij"), dim=-1).to(like.dtype)
        table = table.sign() * (1 + 8 / (self.reach - 1) * table.abs()).log() / math.log(8)
        table = 16 * torch.sigmoid(self.mlp(table)).flatten(0, -2)
        return table[numbers].movedim(-1, 0)
