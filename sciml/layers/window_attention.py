"""Attention among the points of a window, on fields in any number of dimensions."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sciml.layers.position_bias import PositionBias
from sciml.layers.windows import join_windows, split_windows


class WindowAttention(nn.Module):
    """Cosine attention of Swin V2 [Liu et al. 2022, arXiv:2111.09883] in each of the `heads`:

        y_i = sum_j softmax_j( tau cos(q_i, k_j) + B(i - j) ) v_j,    j in the window of i

    q, k, v are linear in the field, k without a constant; tau is learnt, at first 10 and at most
    100; B is a `PositionBias`. The field [b, *space, channels] is cut into windows of `window`
    points per axis, or the `largest_window` that divides the axis, after a shift by the fraction
    `shift` / `window` of one. A window that the shift closes round the domain is one on a periodic
    axis, and two that do not see each other on any other. An axis that is a single window is not
    shifted.
    """

    def __init__(
        self, channels: int, heads: int, window: int, shift: int, periodic: Sequence[bool]
    ):
        super().__init__()
        if channels % heads:
            raise ValueError(
                f"WindowAttention: channels={channels} must be a multiple of heads={heads}."
            )
        self.heads, self.window, self.shift = heads, window, shift
        self.periodic = tuple(periodic)
        self.queries = nn.Linear(channels, channels)
        self.keys = nn.Linear(channels, channels, bias=False)
        self.values = nn.Linear(channels, channels)
        self.output = nn.Linear(channels, channels)
        self.log_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10)))
        self.bias = PositionBias(len(self.periodic), heads, window)

    def forward(self, x: Tensor) -> Tensor:
        shape, dims = x.shape[1:-1], tuple(range(1, x.ndim - 1))
        window = [largest_window(n, self.window) for n in shape]
        shift = [
            self.shift * w // self.window if n > w else 0
            for n, w in zip(shape, window, strict=True)
        ]
        x = split_windows(x.roll([-s for s in shift], dims), window)  # [b, windows, points, c]
        queries, keys = (normalize(self._heads(f(x)), dim=-1) for f in (self.queries, self.keys))
        logits = self.log_scale.clamp_max(math.log(100)).exp() * queries @ keys.transpose(-2, -1)
        whole = [p and w == n for p, w, n in zip(self.periodic, window, shape, strict=True)]
        logits = logits + self.bias(window, whole)
        if any(s and not p for s, p in zip(shift, self.periodic, strict=True)):
            logits = logits.masked_fill(self._apart(shape, window, shift, x), -math.inf)
        x = torch.softmax(logits, dim=-1) @ self._heads(self.values(x))
        x = self.output(x.transpose(2, 3).flatten(3))
        return join_windows(x, window, shape).roll(shift, dims)

    def _heads(self, x: Tensor) -> Tensor:
        """[b, windows, points, channels] -> [b, windows, heads, points, channels / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(2, 3)

    def _apart(
        self, shape: Sequence[int], window: Sequence[int], shift: Sequence[int], like: Tensor
    ) -> Tensor:
        """Which pairs of a window lie on two sides of the domain, [windows, 1, points, points]."""
        side = torch.zeros(1, *shape, 1, dtype=torch.long, device=like.device)
        for i, (n, s, periodic) in enumerate(zip(shape, shift, self.periodic, strict=True)):
            if not periodic:
                beyond = torch.arange(n, device=like.device) >= n - s
                side += 2**i * beyond.view(-1, *[1] * (len(shape) - i))
        side = split_windows(side, window)[0, :, None, :, 0]
        return side[..., None] != side[..., None, :]


def largest_window(points: int, window: int) -> int:
    """The largest number up to `window` that divides `points`."""
    return max(w for w in range(1, min(points, window) + 1) if points % w == 0)
