"""Convolutions of any padding, stride and dilation, and transposed ones, as Kronecker blocks."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from sciml.curvature.linear import Sharing
from sciml.curvature.tokens import Call, Layer, Tokens, trainable, with_one

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class ConvolutionLayer(Layer):
    """An `nn.ConvNd` as a linear layer on the patches of its padded input [Grosse & Martens 2016,
    arXiv:1602.01407]: one matrix [in * kernel (+ 1), out] for each group.

    Patches are cut from the input as the layer pads it, so circular, reflected and replicated
    sides are as exact as zeros. `sharing` over the points as in `LinearLayer`.
    """

    kind = "convolution"

    def __init__(self, module: nn.Module, sharing: Sharing = "expand"):
        self.modules, self.module, self.sharing = {"layer": [module]}, module, sharing
        self.has_bias = trainable(module.bias)
        self.parameters = [module.weight, module.bias] if self.has_bias else [module.weight]
        inputs = module.in_channels // module.groups * math.prod(module.kernel_size)
        self.shape = (module.groups, inputs + self.has_bias, module.out_channels // module.groups)

    def tokens(self, calls: dict[str, list[Call]]) -> Tokens:
        pairs = []
        for call in calls["layer"]:
            module = call.module  # of those that share the weight, paddings and strides may differ
            x, y = (_batched(module, t) for t in (call.arguments[0].detach(), call.gradient))
            pairs.append((_patches(module, x), grouped(y, module.groups)))
        if self.sharing == "reduce":
            pairs = [(a.mean(2, keepdim=True), g.sum(2, keepdim=True)) for a, g in pairs]
        a, g = (
            torch.cat([x.flatten(1, 2) for x in column], 1) for column in zip(*pairs, strict=False)
        )
        return Tokens(with_one(a) if self.has_bias else a, g)

    def join(self, tensors: list[Tensor]) -> Tensor:
        weight, *bias = tensors
        K, i, o = self.shape
        G = weight.reshape(K, o, i - self.has_bias).mT
        return torch.cat((G, *(b.view(K, 1, o) for b in bias)), dim=1)

    def split(self, matrices: Tensor) -> list[Tensor]:
        shape = self.module.weight.shape
        if not self.has_bias:
            return [matrices.mT.reshape(shape)]
        return [matrices[:, :-1].mT.reshape(shape), matrices[:, -1].flatten()]


class TransposedLayer(Layer):
    """An `nn.ConvTransposeNd`: each input point meets the patch of outputs that it adds to, so
    inputs and gradients change roles: one matrix [in, out * kernel] for each group. Its bias is
    not part of it.
    """

    kind = "transposed convolution"

    def __init__(self, module: nn.Module):
        self.modules, self.module = {"layer": [module]}, module
        self.parameters = [module.weight]
        outputs = module.out_channels // module.groups * math.prod(module.kernel_size)
        self.shape = (module.groups, module.in_channels // module.groups, outputs)

    def tokens(self, calls: dict[str, list[Call]]) -> Tokens:
        a, g = [], []
        for call in calls["layer"]:
            module = call.module
            x, y = (_batched(module, t) for t in (call.arguments[0].detach(), call.gradient))
            a.append(grouped(x, module.groups).flatten(1, 2))
            sides = [p for n in reversed(module.padding) for p in (n, n)]
            y = unfolded(pad(y, sides), module.kernel_size, module.stride, module.dilation)
            y = y[(slice(None), slice(None), *(slice(n) for n in x.shape[2:]))]
            y = grouped(y.movedim(1, -2).flatten(-2), module.groups, channels=-1)
            g.append(y.flatten(1, 2))
        return Tokens(torch.cat(a, 1), torch.cat(g, 1))

    def join(self, tensors: list[Tensor]) -> Tensor:
        return tensors[0].reshape(self.shape)

    def split(self, matrices: Tensor) -> list[Tensor]:
        return [matrices.reshape(self.module.weight.shape)]


def _patches(module: nn.Module, x: Tensor) -> Tensor:
    """[groups, b, points, in / groups * kernel] of what a convolution sees of x."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    x = pad(x, module._reversed_padding_repeated_twice, mode=mode)
    x = unfolded(x, module.kernel_size, module.stride, module.dilation)
    return grouped(x.movedim(1, -2).flatten(-2), module.groups, channels=-1)


def _batched(module: nn.Module, x: Tensor) -> Tensor:
    """A single sample as a batch of one."""
    return x if x.ndim == 2 + len(module.kernel_size) else x[None]


def unfolded(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Patches of x [b, c, *space]: [b, c, *points, prod kernel], a view but for the last step."""
    for axis, (n, step, gap) in enumerate(zip(kernel, stride, dilation, strict=True), start=2):
        x = x.unfold(axis, gap * (n - 1) + 1, step)[..., ::gap]
    return x.flatten(2 + len(kernel))


def grouped(x: Tensor, groups: int, channels: int = 1) -> Tensor:
    """[groups, b, points, c / groups] of x [b, ...] with its channels along that axis."""
    x = x.movedim(channels, -1).flatten(1, -2)
    return x.unflatten(-1, (groups, -1)).movedim(-2, 0)
