"""Convolution that knows what lies beyond the sides of the domain."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SidedConv(nn.Module):
    """A convolution with an odd `kernel`, points in and as many out, [b, c, *space].

    Beyond the sides of an axis that `periodic` marks lies the field itself, beyond those of any
    other are zeros; `len(periodic)` is the number of dimensions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        periodic: Sequence[bool],
        *,
        groups: int = 1,
        bias: bool = True,
    ):
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"SidedConv: kernel={kernel} must be odd, to have a centre.")
        self.reach, self.periodic = kernel // 2, tuple(periodic)
        self.convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(periodic) - 1](
            in_channels,
            out_channels,
            kernel,
            padding=tuple(0 if p else self.reach for p in periodic),
            groups=groups,
            bias=bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        for dim, periodic in enumerate(self.periodic, start=2):
            if periodic and self.reach:
                n = x.shape[dim]
                points = torch.arange(-self.reach, n + self.reach, device=x.device) % n
                x = x.index_select(dim, points)
        return self.convolution(x)
