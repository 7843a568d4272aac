"""Relative losses, one number per sample and field: loss(prediction, target, grid) -> [b, c]."""

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from solvers.finite_difference import gradient
from solvers.grid import Grid

__all__ = ["RelativeH1", "RelativeL2", "difference"]


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
        error = vector_norm(difference(prediction, target).flatten(2), dim=2)
        return error / vector_norm(target.flatten(2), dim=2).clamp_min(self.floor)


class RelativeH1(nn.Module):
    """||prediction - target|| / ||target|| in H1, per sample and field: ||u||^2 + ||grad u||^2
    under the root.

    The gradient is that of `solvers.finite_difference`, one-sided at walls: wrapping around a
    wall, as in libraries that take every domain for periodic, adds a jump that is not there. It
    needs training data without noise on the scale of the grid.
    """

    def __init__(self, floor: float = 1e-12):
        super().__init__()
        self.floor = floor

    def forward(self, prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
        error = _h1_norm(difference(prediction, target), grid)
        return error / _h1_norm(target, grid).clamp_min(self.floor)


def _h1_norm(u: Tensor, grid: Grid) -> Tensor:
    parts = torch.cat((u.unsqueeze(2), gradient(u, grid)), dim=2)
    return vector_norm(parts.flatten(2), dim=2)


def difference(prediction: Tensor, target: Tensor) -> Tensor:
    """prediction - target; unequal shapes are refused, they would broadcast to a wrong figure."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction {tuple(prediction.shape)} and target {tuple(target.shape)} differ in "
            "shape; both must be [b, c, *space]."
        )
    return prediction - target
