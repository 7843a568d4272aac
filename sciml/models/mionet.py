"""Multiple-input operator network."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sciml.layers import PerceptronBranch, Trunk
from sciml.models.branch_trunk import BranchTrunk
from sciml.models.card import Card
from solvers.grid import Grid


class MIONet(BranchTrunk):
    """Multiple-input operator network [Jin, Meng & Lu 2022, SISC, arXiv:2202.06137].

        u_o(x) = sum_k b^1_ok(a_1) b^2_ok(a_2) ... b^m_ok(a_m) t_k(x) + b0_o,    k = 1 .. `features`

    The low-rank form of the paper: one branch net for each of m input functions, their outputs
    multiplied. An input function is one channel, or those of an entry of `groups`, such as
    [[0, 1], [2]] for a velocity and a pressure; a frame, a parameter or a lead time is a channel
    like any other. Of one input function this is a `DeepONet`. With linear branch nets the map is
    linear in each input function but for b0.

    The channels of the output share the trunk net and have parts of the branch nets' outputs each.
    `branch` and `trunk` as in `DeepONet`. A product of many nets is small or large: for more than
    about five channels, form groups.
    """

    card = Card("Jin, Meng & Lu 2022, arXiv:2202.06137", boundaries="periodic by its functions")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        features: int = 128,
        groups: Sequence[Sequence[int]] | None = None,
        branch: Callable[[int, int, Grid], nn.Module] = PerceptronBranch,
        trunk: Callable[[int, Grid], nn.Module] = Trunk,
    ):
        super().__init__(in_channels, ndim, grid)
        if features < 1:
            raise ValueError(f"MIONet: features={features} must be at least 1.")
        self.groups = [[c] for c in range(in_channels)] if groups is None else list(groups)
        if sorted(c for group in self.groups for c in group) != list(range(in_channels)) or not all(
            self.groups
        ):
            raise ValueError(
                f"MIONet: groups={self.groups} must hold each of the {in_channels} channels, "
                "numbered from 0, once."
            )
        self.branches = nn.ModuleList(
            branch(len(group), out_channels * features, grid) for group in self.groups
        )
        self.trunk = trunk(features, grid)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.features = features

    def coefficients(self, a: Tensor, grid: Grid) -> Tensor:
        b = torch.ones((), dtype=a.dtype, device=a.device)
        for branch, group in zip(self.branches, self.groups, strict=True):
            b = b * branch(a[:, list(group)], grid)
        return b.unflatten(-1, (-1, self.features))

    def functions(self, points: Tensor) -> tuple[Tensor, Tensor]:
        return self.trunk(points)[..., None, :], self.bias[None]
