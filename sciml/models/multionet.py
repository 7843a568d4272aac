"""Operator network with a product at every layer."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from sciml.layers import PerceptronBranch
from sciml.layers.trunk import Coordinates
from sciml.models.branch_trunk import BranchTrunk
from sciml.models.card import Card
from solvers.grid import Grid

INPUT_LAYER = partial(PerceptronBranch, widths=())


class MultiONet(BranchTrunk):
    """MultiONet [Zang & Koutsourelakis 2025, arXiv:2502.06250].

        a_0 = f(B(a)),      a_l = f(A_l a_(l-1)),    f(v) = silu(v) + v
        x_0 = g(X_0 z(x)),  x_l = g(X_l x_(l-1)),    g(v) = silu(sin(pi (v + 1))) + v
        u_o(x) = 1/L sum_l w_ol <a_l, x_l> + b0_o,   l = 1 .. L = `depth`

    A_l and X_l are linear maps of `width` features, B, made by `branch` as in `DeepONet`, is linear
    too unless another branch net is asked for, z as in `Trunk`. Where a DeepONet multiplies its
    last layers alone, every layer behind the first counts here, at the price of L numbers. All w
    and b0 are 0 at first, and so is the output.

    This is the form of the public code (yaohua32/Deep-Neural-Operators-for-PDEs) in which every
    layer counts; its printed figures come from an earlier one with w = 1 and a bias for each
    layer, which has L - 1 more parameters: for Burgers with 128 sensors, width 128 and depth 3
    115,846, here 115,844 between walls and 116,228 on a periodic axis, where x enters as two
    harmonics. Its latest form counts the last few layers alone. There the weights of the layers
    start as torch makes them; here they are Glorot normal, as in `DeepONet`. More than one output
    channel is had by weights of their own.
    """

    card = Card(
        "Zang & Koutsourelakis 2025, arXiv:2502.06250", boundaries="periodic by its functions"
    )

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        width: int = 128,
        depth: int = 4,
        harmonics: int = 2,
        expansion: int = 0,
        branch: Callable[[int, int, Grid], nn.Module] = INPUT_LAYER,
    ):
        super().__init__(in_channels, ndim, grid)
        if width < 1 or depth < 1:
            raise ValueError(f"MultiONet: width={width} and depth={depth} must be at least 1.")
        self.branch = branch(in_channels, width, grid)
        self.coordinates = Coordinates(grid, harmonics, expansion)
        self.entry = _linear(self.coordinates.size, width)
        self.branch_layers = nn.ModuleList(_linear(width, width) for _ in range(depth))
        self.trunk_layers = nn.ModuleList(_linear(width, width) for _ in range(depth))
        self.weight = nn.Parameter(torch.zeros(out_channels, depth))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def coefficients(self, a: Tensor, grid: Grid) -> Tensor:
        a = _of_branch(self.branch(a, grid))
        layers = []
        for linear in self.branch_layers:
            a = _of_branch(linear(a))
            layers.append(a)
        weight = self.weight / len(layers)
        return (weight[..., None] * torch.stack(layers, dim=-2)[:, None]).flatten(2)

    def functions(self, points: Tensor) -> tuple[Tensor, Tensor]:
        x = _of_trunk(self.entry(self.coordinates(points)))
        layers = []
        for linear in self.trunk_layers:
            x = _of_trunk(linear(x))
            layers.append(x)
        return torch.cat(layers, dim=-1)[..., None, :], self.bias[None]


def _of_branch(v: Tensor) -> Tensor:
    return silu(v) + v


def _of_trunk(v: Tensor) -> Tensor:
    return silu(torch.sin(math.pi * (v + 1))) + v


def _linear(before: int, after: int) -> nn.Linear:
    linear = nn.Linear(before, after)
    nn.init.xavier_normal_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
