"""Layer normalisation whose scale and shift are functions of one number per sample."""

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm


class ConditionalLayerNorm(nn.Module):
    """y = alpha(t) (x - mean x) / std x + beta(t),  alpha and beta affine in the number t
    [Herde et al. 2024, arXiv:2405.19101].

    Mean and standard deviation over the channels at each point. x is [b, *points, channels] and t
    [b, 1]. At first beta is near 0 and alpha near 1: their slopes are normal, of deviation 0.02.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.scale, self.shift = nn.Linear(1, channels), nn.Linear(1, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for affine, start in ((self.scale, 1.0), (self.shift, 0.0)):
            nn.init.normal_(affine.weight, std=0.02)
            nn.init.constant_(affine.bias, start)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        sizes = (x.shape[0], *[1] * (x.ndim - 2), x.shape[-1])
        x = layer_norm(x, x.shape[-1:])
        return torch.addcmul(self.shift(t).view(sizes), x, self.scale(t).view(sizes))
