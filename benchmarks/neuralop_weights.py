"""Weights of neuraloperator's FNO in ours, so that both compute the same."""

import torch
from torch import nn

from sciml.models import FNO


@torch.no_grad()
def copy_weights(ours: FNO, theirs: nn.Module) -> None:
    """neuralop's weights into ours: its modes run from -m to m - 1, ours 0 .. m - 1, -1 .. -m."""
    blocks = theirs.fno_blocks
    for i, block in enumerate(ours.blocks):
        weight = blocks.convs[i].weight.tensor
        for axis, m in enumerate(ours.modes[:-1]):
            order = torch.tensor([*range(m, 2 * m), *range(m - 1, -1, -1)])
            weight = weight.index_select(2 + axis, order)
        weight = weight.movedim((0, 1), (-2, -1)).contiguous()
        block.convolution.weight.entries.copy_(torch.view_as_real(weight))
        block.skip.weight.copy_(blocks.fno_skips[i].conv.weight[..., 0])
        block.convolution.bias.copy_(blocks.convs[i].bias.flatten())
        block.gate.copy_(blocks.channel_mlp_skips[i].weight.flatten())
        _copy_perceptron(block.mlp, blocks.channel_mlp[i])
    _copy_perceptron(ours.lifting, theirs.lifting)
    _copy_perceptron(ours.projection, theirs.projection)


def _copy_perceptron(ours: nn.Sequential, theirs: nn.Module) -> None:
    for mine, other in zip((ours[0], ours[2]), theirs.fcs, strict=True):
        mine.weight.copy_(other.weight[..., 0])
        mine.bias.copy_(other.bias)
