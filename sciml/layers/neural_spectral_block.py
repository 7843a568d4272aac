"""The neural spectral block: a field projected on a few tokens, which trigonometric series map."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sciml.layers.windows import join_windows, split_windows

HEADS = 8


class NeuralSpectralBlock(nn.Module):
    """Attention to `tokens` latent tokens, a series in each channel, attention back
    [Wu et al. 2023, arXiv:2301.12664], in each patch of the field on its own:

        T = softmax(T_0 K(x)^T) V(x) + T_0
        T <- T + sum_{m < M} a[c, m] sin(pi m/M T) + b[c, m] cos(pi m/M T)
        x <- softmax(Q(x) T^T) T + x

    T_0 are learnt tokens; K, V and Q are linear maps at each point; attention has 8 heads and its
    logits are not scaled. M is `basis`. The frequencies pi m / M, m = 0 .. M - 1, are those of the
    published code. Field [b, width, *space]; the points of an axis must be a multiple of `patch`.
    """

    def __init__(self, width: int, patch: Sequence[int], tokens: int, basis: int):
        super().__init__()
        if width % HEADS:
            raise ValueError(
                f"NeuralSpectralBlock: width={width} must be a multiple of its {HEADS} heads."
            )
        self.patch, self.width = tuple(patch), width
        self.tokens = nn.Parameter(torch.rand(HEADS, tokens, width // HEADS) / width)
        self.encoder = nn.Linear(width, 2 * width)
        self.decoder = nn.Linear(width, width)
        self.series = nn.Parameter(torch.rand(width, 2 * basis) / width)

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[2:]
        x = split_windows(x.movedim(1, -1), self.patch)  # [b, patches, points, width]
        keys, values = (_heads(part) for part in self.encoder(x).chunk(2, dim=-1))
        tokens = _attend(self.tokens, keys, values) + self.tokens
        tokens = tokens + self._series(tokens)
        x = _attend(_heads(self.decoder(x)), tokens, tokens).transpose(2, 3).flatten(3) + x
        return join_windows(x, self.patch, shape).movedim(-1, 1)

    def _series(self, tokens: Tensor) -> Tensor:
        """The trigonometric series of each channel at token values [b, patches, heads, t, c]."""
        basis = self.series.shape[1] // 2
        m = torch.arange(basis, dtype=tokens.dtype, device=tokens.device)
        angle = tokens[..., None] * (math.pi / basis * m)
        waves = torch.cat((angle.sin(), angle.cos()), dim=-1)
        series = self.series.view(HEADS, self.width // HEADS, -1)
        return torch.einsum("bphtcm,hcm->bphtc", waves, series)


def _heads(x: Tensor) -> Tensor:
    """[b, patches, points, width] -> [b, patches, heads, points, width / heads]."""
    return x.unflatten(-1, (HEADS, -1)).transpose(2, 3)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return torch.softmax(queries @ keys.transpose(-2, -1), dim=-1) @ values
