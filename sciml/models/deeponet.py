"""Deep operator network."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from sciml.layers import PerceptronBranch, Trunk
from sciml.models.branch_trunk import BranchTrunk
from sciml.models.card import Card
from solvers.grid import Grid


class DeepONet(BranchTrunk):
    """Deep operator network [Lu et al. 2021, Nature Machine Intelligence, arXiv:1910.03193].

        u_o(x) = sum_k b_ok(a) t_ok(x) + b0_o,    k = 1 .. `features`

    The branch nets b see the input function, the trunk nets t the place, in the unstacked form of
    the paper. `branch`, called with (in_channels, outputs, grid), makes a branch net:
    `PerceptronBranch`, `ConvolutionBranch` or `FourierBranch`; `trunk`, called with (outputs,
    grid), makes a trunk net. Fields of several channels are had in the four ways of Lu et al. 2022
    (arXiv:2111.05512), with `features` functions for each channel in all of them:

        independent    nets b and t for each channel
        split_both     one net b and one net t, the outputs of both divided among the channels
        split_branch   the outputs of b are divided, t is shared: the channels lie in one space
        split_trunk    the outputs of t are divided, b is shared

    Input [b, in_channels, *space], output [b, out_channels, *space], on any resolution of `grid`;
    `at(a, points)` is u at free points, with derivatives by x. All channels go into one branch net;
    `MIONet` gives each its own.

    Published: Burgers 128 sensors, branch widths 128 x 3, trunk widths 128 x 2 behind 2 harmonics,
    tanh: 99,713 parameters; Darcy 29 x 29 `ConvolutionBranch` with channels 64, 128, kernel 5,
    stride 2, width 128, trunk widths 128 x 3, relu: 682,753 parameters. There the coordinates are
    not scaled, here to [-1, 1], and targets are normalised at each point, here in each channel. No
    condition on the sides is enforced, but for periodic ones. Good start: features=128.
    """

    card = Card("Lu et al. 2021, arXiv:1910.03193", boundaries="periodic by its functions")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        features: int = 128,
        outputs: Literal[
            "independent", "split_both", "split_branch", "split_trunk"
        ] = "split_branch",
        branch: Callable[[int, int, Grid], nn.Module] = PerceptronBranch,
        trunk: Callable[[int, Grid], nn.Module] = Trunk,
    ):
        super().__init__(in_channels, ndim, grid)
        if features < 1:
            raise ValueError(f"DeepONet: features={features} must be at least 1.")
        nets = out_channels if outputs == "independent" else 1
        shares = out_channels if outputs in ("split_both", "split_branch") else 1
        self.branches = nn.ModuleList(
            branch(in_channels, shares * features, grid) for _ in range(nets)
        )
        shares = out_channels if outputs in ("split_both", "split_trunk") else 1
        self.trunks = nn.ModuleList(trunk(shares * features, grid) for _ in range(nets))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.features = features

    def coefficients(self, a: Tensor, grid: Grid) -> Tensor:
        b = torch.cat([branch(a, grid) for branch in self.branches], dim=-1)
        return b.unflatten(-1, (-1, self.features))

    def functions(self, points: Tensor) -> tuple[Tensor, Tensor]:
        t = torch.cat([trunk(points) for trunk in self.trunks], dim=-1)
        return t.unflatten(-1, (-1, self.features)), self.bias[None]
