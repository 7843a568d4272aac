"""Deep operator network on the proper orthogonal decomposition of its targets."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from sciml.layers import PerceptronBranch
from sciml.layers.interpolation import interpolate
from sciml.layers.pod import decompose
from sciml.layers.quadrature import mean_weights
from sciml.models.branch_trunk import BranchTrunk
from sciml.models.card import Card
from solvers.grid import Grid


class PODDeepONet(BranchTrunk):
    """POD-DeepONet [Lu et al. 2022, CMAME, arXiv:2111.05512].

        u_o(x) = mean_o(x) + 1/K sum_k b_ok(a) phi_ok(x),    k = 1 .. K = `modes`

    mean_o and phi_ok are the mean and the modes of channel o of the training targets, orthonormal
    in the mean over the domain. On a uniform grid that is the published scaling, root n times unit
    vectors and the factor 1/K. No trunk net is learnt.

    `prepare` finds them from the training split, which it holds in memory once in double
    precision; they are then saved with the weights. Before it they are 0, and so is the output.
    With fewer samples than modes the last modes are 0. Between the points of `grid` the modes are
    interpolated linearly along each axis (`interpolate`), on other resolutions as in `at`: what is
    finer than the training grid is not there.

    `branch` as in `DeepONet`, called with out_channels * modes outputs.
    """

    card = Card("Lu et al. 2022, arXiv:2111.05512", boundaries="those of its training data")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        ndim: int,
        *,
        grid: Grid,
        modes: int = 32,
        branch: Callable[[int, int, Grid], nn.Module] = PerceptronBranch,
    ):
        super().__init__(in_channels, ndim, grid)
        points = mean_weights(grid).numel()
        if not 1 <= modes <= points:
            raise ValueError(
                f"PODDeepONet: modes={modes} must be from 1 to {points}, the number of points of "
                f"the grid {grid.shape}."
            )
        self.branch = branch(in_channels, out_channels * modes, grid)
        self.register_buffer("mean", torch.zeros(out_channels, *grid.shape))
        self.register_buffer("basis", torch.zeros(out_channels, modes, *grid.shape))

    def prepare(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The mean and the modes of the targets of `pairs`."""
        targets = [u.detach().to("cpu", torch.float64) for _, u in pairs]
        if not targets:
            raise ValueError("PODDeepONet: no training samples to take modes from.")
        if any(u.shape[1:] != self.mean.shape for u in targets):
            shapes = sorted({tuple(u.shape[1:]) for u in targets})
            raise ValueError(
                f"PODDeepONet: targets {shapes[0]} of the training data differ from the model's "
                f"{tuple(self.mean.shape)}; prepare it on the grid that it was built for."
            )
        weights = mean_weights(self.grid).flatten()
        for channel, u in enumerate(torch.cat(targets).flatten(2).unbind(1)):
            found = decompose(u, weights, self.basis.shape[1])
            self.mean[channel] = found.mean.view(self.grid.shape)
            self.basis[channel] = found.modes.view(-1, *self.grid.shape)

    def coefficients(self, a: Tensor, grid: Grid) -> Tensor:
        shape = self.basis.shape[:2]
        return self.branch(a, grid).unflatten(-1, shape) / shape[1]

    def functions(self, points: Tensor) -> tuple[Tensor, Tensor]:
        mean = interpolate(self.mean, self.grid, points)
        basis = interpolate(self.basis.flatten(0, 1), self.grid, points)
        return basis.unflatten(-1, self.basis.shape[:2]), mean
