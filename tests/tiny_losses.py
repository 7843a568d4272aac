"""Training losses so small that their Hessians are matrices."""

from collections.abc import Callable

import torch
from curvlinops._torch_base import PyTorchLinearOperator
from torch import Tensor, nn

from sciml.curvature.operators import Objective, SampledLoss
from sciml.gauss_newton import Expansion
from sciml.losses import RelativeL2
from sciml.tasks.part import Misfit, Part, total
from solvers.grid import Grid
from tests.helpers import periodic

GRID = periodic((6,), (1.0,))


class TinyNet(nn.Module):
    """[b, 1, 6] to itself, with real and complex weights: 57 real numbers."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(6, 3), nn.Linear(3, 6)
        self.spectral = nn.Parameter(0.5 * torch.randn(3, 2, dtype=torch.complex128))
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.inner(x))
        modes = torch.fft.rfft(h)[..., :2] * self.spectral.sum(0)
        return self.outer(nn.functional.silu(torch.fft.irfft(modes, n=3)))


def tiny_loss(
    model: nn.Module,
    parts: Callable[[Tensor, Tensor], list[Part]] | None = None,
    *,
    samples: int = 5,
    batch_size: int = 2,
    grid: Grid = GRID,
) -> SampledLoss:
    """On random pairs [samples, 1, *grid] of numbers; by default their relative L2 error."""
    generator = torch.Generator().manual_seed(1)
    a, u = torch.randn(
        2, samples, 1, *grid.shape, dtype=torch.float64, generator=generator
    ).unbind()
    like = next(model.parameters()).real.dtype
    a, u = a.to(like), u.to(like)

    def expand(numbers: Tensor) -> Expansion:
        v, target = model(a[numbers]), u[numbers]
        made = parts(v, target) if parts else [Misfit(RelativeL2(), v, target, grid)]
        return Expansion(total(made), [part.term() for part in made])

    return SampledLoss(Objective(model, expand), samples, batch_size)


def dense_hessian(loss: SampledLoss) -> Tensor:
    """By differentiating L(theta) twice, without any operator."""

    def value(theta: Tensor) -> Tensor:
        values = [loss.view.at(theta, b).value * len(b) for b, _ in loss._data]
        return torch.stack(values).sum() / loss.samples

    return torch.autograd.functional.hessian(value, loss.view.theta())


class DenseOperator(PyTorchLinearOperator):
    """A symmetric matrix as curvlinops has operators."""

    SELF_ADJOINT = True

    def __init__(self, matrix: Tensor):
        super().__init__([(len(matrix),)], [(len(matrix),)])
        self.matrix = matrix

    def _matmat(self, X: list[Tensor]) -> list[Tensor]:
        return [self.matrix @ X[0]]

    @property
    def device(self) -> torch.device:
        return self.matrix.device

    @property
    def dtype(self) -> torch.dtype:
        return self.matrix.dtype
