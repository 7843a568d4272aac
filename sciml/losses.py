"""Relative losses, one number per sample and field: loss(prediction, target, grid) -> [b, c]."""

from torch import Tensor, nn

from sciml.norms import difference, h1_norm, l2_norm
from solvers.grid import Grid

__all__ = ["RelativeH1", "RelativeL2"]


class RelativeL2(nn.Module):
    """||prediction - target|| / ||target|| in L2, per sample and field.

    On a uniform grid the ratio does not depend on the resolution. A target that is zero
    everywhere has no relative error: `floor`, in the units of the field's norm, bounds the
    denominator from below.
    """

    def __init__(self, floor: float = 1e-12):
        super().__init__()
        self.floor = floor

    def forward(self, prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
        return l2_norm(difference(prediction, target)) / l2_norm(target).clamp_min(self.floor)


class RelativeH1(nn.Module):
    """||prediction - target|| / ||target|| in H1, per sample and field: `norms.h1_norm`.

    It needs training data without noise on the scale of the grid.
    """

    def __init__(self, floor: float = 1e-12):
        super().__init__()
        self.floor = floor

    def forward(self, prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
        error = h1_norm(difference(prediction, target), grid)
        return error / h1_norm(target, grid).clamp_min(self.floor)
