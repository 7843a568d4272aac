"""Losses, one number per sample and field: loss(prediction, target, grid) -> [b, c].

Each also has `term(prediction, target, grid)`, a `Term` whose weight belongs to the sum of those
numbers: what second-order methods know of it. A root of a sum of squares curves in no direction
along the error; there the term is that of the parabola which touches it from above,

    |e| <= |e_0| / 2 + |e|^2 / (2 |e_0|)

with equality at the present error e_0.
"""

from torch import Tensor, nn

from sciml.gauss_newton import Term, beside
from sciml.norms import difference, h1_norm, l2_norm, with_gradient
from solvers.grid import Grid

__all__ = ["MeanSquaredError", "RelativeH1", "RelativeL2"]

SMALLEST = 1e-6  # relative error below which a root is taken for the parabola at that error


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

    def term(self, prediction: Tensor, target: Tensor, grid: Grid) -> Term:
        """r = prediction - target with the weight 1 / (||r|| ||target||)."""
        residual = difference(prediction, target)
        weight = root_weight(l2_norm(residual), l2_norm(target).clamp_min(self.floor))
        return Term(residual, beside(weight, residual))


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

    def term(self, prediction: Tensor, target: Tensor, grid: Grid) -> Term:
        """r = (e, grad e), e = prediction - target, with the weight 1 / (||r|| ||target||)."""
        residual = with_gradient(difference(prediction, target), grid)
        size = h1_norm(target, grid).clamp_min(self.floor)
        return Term(residual, beside(root_weight(l2_norm(residual), size), residual))


class MeanSquaredError(nn.Module):
    """Mean over the grid points of (prediction - target)^2, per sample and field.

    In the squared units of the field: fields of different sizes weigh differently.
    """

    def forward(self, prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
        return difference(prediction, target).square().flatten(2).mean(dim=2)

    def term(self, prediction: Tensor, target: Tensor, grid: Grid) -> Term:
        """r = prediction - target with the weight 2 / (number of points)."""
        residual = difference(prediction, target)
        weight = residual.new_full(residual.shape[:2], 2 / residual[0, 0].numel())
        return Term(residual, beside(weight, residual))


def root_weight(norm: Tensor, size: Tensor) -> Tensor:
    """Second derivative of |r| / size along any direction, of the parabola at |r| = norm."""
    return 1 / (norm.clamp_min(SMALLEST * size) * size)
