"""Hessian and Gauss-Newton matrix of a training loss as linear operators of curvlinops.

curvlinops gives what follows from products with vectors: SciPy's eigenvalues through `to_scipy`,
traces, spectral densities [Dangel et al. 2025, arXiv:2501.19183]. It differentiates a model and a
loss of (input, target); here a model is the whole training loss, or its weighted residual, and the
input are the numbers of samples.
"""

from collections.abc import Callable

import torch
from curvlinops import GGNLinearOperator, HessianLinearOperator
from torch import Tensor, nn

from sciml.curvature.real_view import RealView
from sciml.gauss_newton import Expansion


class Objective(nn.Module):
    """`expand(numbers)`: the loss on samples [b], given by their numbers, with the weights of
    `model`. What it draws at random is the same whenever the numbers begin with the same one.
    """

    def __init__(self, model: nn.Module, expand: Callable[[Tensor], Expansion], seed: int = 0):
        super().__init__()
        self.model, self.expand, self.seed = model, expand, seed

    def forward(self, numbers: Tensor) -> Expansion:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed + int(numbers[0]))
            return self.expand(numbers)


class SampledLoss:
    """The training loss on `samples` samples as a function of theta [n], see `RealView`.

        L(theta) = sum over batches of (b / samples) L_b(theta)

    L_b is what training takes for the loss of such a batch of b samples, `batch_size` of them but
    for the last. Everything is in float64, but for what the model computes in its own precision.
    """

    def __init__(self, objective: nn.Module, samples: int, batch_size: int):
        self.view, self.samples = RealView(objective), samples
        self._device = self.view.parts[0].device
        numbers = torch.arange(samples, device=self._device)
        self._data = [(batch, batch.new_empty(0)) for batch in numbers.split(batch_size)]

    @property
    def names(self) -> list[str]:
        """Of the tensors that theta consists of, as the model has them."""
        return [name.removeprefix("model.") for name in self.view.names]

    @torch.no_grad()
    def value(self, theta: Tensor | None = None) -> float:
        """L at theta, or at the weights of the model."""
        theta = self.view.theta() if theta is None else theta
        values = [self.view.at(theta, b).value.double() * len(b) for b, _ in self._data]
        return float(torch.stack(values).sum()) / self.samples

    def gradient(self, number: int | None = None) -> Tensor:
        """Of L [n], or of the loss on one sample by itself."""
        if number is not None:
            return self._gradient(torch.tensor([number], device=self._device))
        return sum(self._gradient(b) * (len(b) / self.samples) for b, _ in self._data)

    def _gradient(self, numbers: Tensor) -> Tensor:
        parts = list(self.view.parts)
        loss = self.view(numbers).value
        return self.view.join(torch.autograd.grad(loss, parts, materialize_grads=True))

    def hessian(self) -> HessianLinearOperator:
        """d^2 L / d theta^2, [n, n]."""
        return self._operator(Hessian, _Value(self.view), _Sum(), self._data)

    def curvatures(self, v: Tensor) -> Tensor:
        """v^T H_i v with the Hessian of the loss on each sample by itself, [samples]."""
        singles = [(batch, y) for numbers, y in self._data for batch in numbers.split(1)]
        products = [
            self._operator(Hessian, _Value(self.view), _Sum(), [one]) @ v for one in singles
        ]
        return torch.stack([v @ product for product in products])

    def gauss_newton(self) -> GGNLinearOperator:
        """sum over batches of (b / samples) J^T diag(weight) J, from the terms of each: [n, n]."""
        return self._operator(GaussNewton, _Weighted(self.view), _HalfSquare(), self._data)

    def _operator(self, kind: type, model: nn.Module, loss: nn.Module, data: list):
        return kind(model, loss, list(self.view.parts), data, check_deterministic=False)


class Hessian(HessianLinearOperator):
    """curvlinops' Hessian with products by two backward passes, a column at a time.

    Its own are forward over backward, which PyTorch does not have for SiLU and for group
    normalisation; and it works on all columns of a matrix at once, in as many times the memory.
    """

    def _matmat_batch(self, X: Tensor, y: Tensor, M: list[Tensor]) -> list[Tensor]:
        with torch.enable_grad():
            loss = self._loss_func(self._model_func(X), y)
            slopes = torch.autograd.grad(
                loss, self._params, create_graph=True, materialize_grads=True
            )
        curved = [i for i, slope in enumerate(slopes) if slope.requires_grad]
        columns = [
            torch.autograd.grad(
                [slopes[i] for i in curved],
                self._params,
                [M[i][..., k] for i in curved],
                retain_graph=k + 1 < M[0].shape[-1],
                materialize_grads=True,
            )
            for k in range(M[0].shape[-1])
        ]
        return [torch.stack(parts, dim=-1) for parts in zip(*columns, strict=True)]


class GaussNewton(GGNLinearOperator):
    """curvlinops' Gauss-Newton matrix, a column at a time."""

    def _matmat_batch(self, X: Tensor, y: Tensor, M: list[Tensor]) -> list[Tensor]:
        product = super()._matmat_batch
        columns = [product(X, y, [m[..., k : k + 1] for m in M]) for k in range(M[0].shape[-1])]
        return [torch.cat(parts, dim=-1) for parts in zip(*columns, strict=True)]


class _Value(nn.Module):
    def __init__(self, view: RealView):
        super().__init__()
        self.view = view

    def forward(self, numbers: Tensor) -> Tensor:
        return self.view(numbers).value.double()


class _Weighted(_Value):
    """weight^(1/2) r of all terms, [m]: with half its square for a loss, whose Hessian is one,
    J^T diag(weight) J is the Gauss-Newton matrix.
    """

    def forward(self, numbers: Tensor) -> Tensor:
        terms = self.view(numbers).terms
        return torch.cat([(t.weight.sqrt() * t.residual).double().flatten() for t in terms])


class _Sum(nn.Module):
    reduction = "mean"  # over samples: curvlinops weighs batches by their size

    def forward(self, value: Tensor, y: Tensor) -> Tensor:
        return value.sum()


class _HalfSquare(_Sum):
    def forward(self, value: Tensor, y: Tensor) -> Tensor:
        return value.square().sum() / 2
