"""Products with the Gauss-Newton matrix against the dense matrix."""

from functools import partial

import pytest
import torch
from torch import nn

from sciml.curvature.gauss_newton_product import GaussNewtonProduct
from sciml.curvature.parameter_vector import ParameterVector
from sciml.gauss_newton import Expansion, Term
from sciml.layers import PerceptronBranch, Trunk, fourier_block, perceptron
from sciml.layers.fusion import parts_one_by_one
from sciml.losses import MeanSquaredError, RelativeH1, RelativeL2
from sciml.models import FNO, TFNO, DeepONet, MgNO
from solvers.grid import Grid

GRIDS = {d: Grid.box((8,) * d, boundary="periodic", points="left") for d in (1, 2)}
BRANCH, TRUNK = partial(PerceptronBranch, widths=(4,)), partial(Trunk, widths=(4, 3))
MODELS = {
    "fno": (1, lambda g: FNO(1, 1, 1, grid=g, width=3, modes=2, depth=2)),
    "tfno": (1, lambda g: TFNO(1, 1, 1, grid=g, width=4, modes=2, depth=1, rank=0.5)),
    "deeponet": (1, lambda g: DeepONet(1, 1, 1, grid=g, features=3, branch=BRANCH, trunk=TRUNK)),
    "mgno": (2, lambda g: MgNO(1, 1, 2, grid=g, width=2, depth=1, iterations=((1, 1), (1, 0)))),
}
LOSSES = {"l2": RelativeL2(), "h1": RelativeH1(), "mse": MeanSquaredError()}


def problem(name: str, *losses: str):
    """A tiny model and a function that expands the sum of the losses on two samples."""
    torch.manual_seed(0)
    ndim, make = MODELS[name]
    grid = GRIDS[ndim]
    model = make(grid).double()
    a, u = torch.randn(2, 2, 1, *grid.shape, dtype=torch.float64)

    def expand() -> Expansion:
        found = model(a)
        parts = [(LOSSES[loss], 1.0 + i) for i, loss in enumerate(losses)]
        value = sum(f * loss(found, u, grid).mean() for loss, f in parts)
        return Expansion(value, [loss.term(found, u, grid).scaled(f / 2) for loss, f in parts])

    return model, expand


def dense(expansion: Expansion, layout: ParameterVector) -> torch.Tensor:
    """J^T diag(w) J from one backward pass for each entry of each residual."""
    G = 0.0
    for residual, weight in expansion.terms:
        rows = [
            layout.join(
                torch.autograd.grad(r, layout.parameters, retain_graph=True, allow_unused=True)
            )
            for r in residual.flatten()
        ]
        J = torch.stack(rows)
        G = G + J.T @ (weight.expand_as(residual).reshape(-1, 1) * J)
    return G


def trainable(model: nn.Module) -> ParameterVector:
    return ParameterVector(p for p in model.parameters() if p.requires_grad)


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-10) -> bool:
    return bool((a - b).norm() <= tolerance * b.norm())


@pytest.mark.parametrize("losses", [("l2",), ("h1",), ("mse",), ("mse", "h1")], ids="+".join)
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_dense_matrix(name, losses):
    model, expand = problem(name, *losses)
    layout = trainable(model)
    with parts_one_by_one():
        G = GaussNewtonProduct(expand(), layout)
    v, w = torch.randn(2, len(layout), dtype=torch.float64)
    matrix = dense(expand(), layout)
    assert close(G(v), matrix @ v) and close(G(w), matrix @ w)
    assert abs(v @ G(w) - w @ G(v)) <= 1e-12 * G(v).norm() * w.norm()
    gradient = torch.autograd.grad(expand().value, layout.parameters, allow_unused=True)
    assert close(G.gradient(), layout.join(gradient))


def test_is_positive_semidefinite():
    model, expand = problem("fno", "l2")
    layout = trainable(model)
    G = GaussNewtonProduct(expand(), layout)
    columns = torch.stack([G(e) for e in torch.eye(len(layout), dtype=torch.float64)])
    values = torch.linalg.eigvalsh(columns)
    assert close(columns, columns.T, 1e-13) and values[0] >= -1e-13 * values[-1]
    assert values[-1] > 0


def test_pushing_is_the_transpose_of_pulling():
    model, expand = problem("tfno", "mse", "h1")
    G = GaussNewtonProduct(expand(), trainable(model))
    v = torch.randn(len(G.layout), dtype=torch.float64)
    vectors = [torch.randn_like(r) for r in G.residuals]
    pushed = sum((y * u).sum() for y, u in zip(G.push(v), vectors, strict=True))
    torch.testing.assert_close(pushed, G.transposed(vectors) @ v, rtol=1e-12, atol=0)


def test_draws_have_its_covariance():
    model, expand = problem("deeponet", "mse")
    for p in list(model.parameters())[:-2]:
        p.requires_grad_(False)
    layout = trainable(model)
    G = GaussNewtonProduct(expand(), layout)
    matrix = dense(expand(), layout)
    draws = torch.stack([G.draw() for _ in range(4000)])
    assert close(draws.T @ draws / len(draws), matrix, 0.1)


class Waves(nn.Module):
    """Complex parameters, one that nothing depends on, and one that is frozen."""

    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.randn(3, dtype=torch.complex128))
        self.unused = nn.Parameter(torch.randn(2, dtype=torch.float64))
        self.frozen = nn.Parameter(torch.ones(3, dtype=torch.float64), requires_grad=False)

    def forward(self, x):
        return (self.c * torch.exp(1j * x * self.c) * self.frozen).real


def test_complex_parameters_and_those_that_matter_not():
    torch.manual_seed(0)
    model, x = Waves(), torch.randn(4, 3, dtype=torch.float64)
    layout = trainable(model)
    assert len(layout) == 2 * 3 + 2

    def expand():
        r = model(x)
        return Expansion(r.square().sum() / 2, [Term(r, torch.rand_like(r))])

    torch.manual_seed(1)
    G = GaussNewtonProduct(expand(), layout)
    torch.manual_seed(1)
    matrix = dense(expand(), layout)
    v = torch.randn(len(layout), dtype=torch.float64)
    assert close(G(v), matrix @ v)
    assert G(v)[6:].eq(0).all()

    def residual(vector):  # J v again, by a difference
        layout.assign(vector)
        with torch.no_grad():
            return model(x)

    start = layout.values()
    slope = (residual(start + 1e-6 * v) - residual(start - 1e-6 * v)) / 2e-6
    layout.assign(start)
    assert close(G.push(v)[0], slope, 1e-8)


def test_vectors_and_parameters():
    model = Waves()
    layout = trainable(model)
    parts = layout.split(torch.arange(8.0, dtype=torch.float64))
    assert parts[0].is_complex() and parts[0].tolist() == [0 + 1j, 2 + 3j, 4 + 5j]
    assert parts[1].tolist() == [6, 7]
    assert layout.join(parts).tolist() == list(range(8))
    assert layout.join([None, parts[1]]).tolist() == [0] * 6 + [6, 7]
    layout.assign(torch.arange(8.0, dtype=torch.float64))
    assert torch.equal(layout.values(), torch.arange(8.0, dtype=torch.float64))


def test_a_graph_is_valid_again_once_the_parameters_are_back():
    """Control: noticed by autograd, the same two assignments make it invalid."""
    model, expand = problem("fno", "l2")
    layout = trainable(model)
    G, v = GaussNewtonProduct(expand(), layout), torch.randn(len(layout), dtype=torch.float64)
    before, start = G(v), layout.values()
    layout.assign(start + 1)
    layout.assign(start)
    assert torch.equal(G(v), before)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1), p.sub_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        G(v)


def test_fused_layers_have_the_same_product_and_parts_run_no_fused_operation(monkeypatch):
    fused = []
    for module, name in ((fourier_block, "FusedBlock"), (perceptron, "FusedPerceptron")):
        function = getattr(module, name)
        count = lambda *a, apply=function.apply: fused.append(1) or apply(*a)  # noqa: E731
        monkeypatch.setattr(function, "apply", count)
    again = []
    recompute = perceptron.gradients
    for module in (fourier_block, perceptron):
        monkeypatch.setattr(module, "gradients", lambda *a: again.append(1) or recompute(*a))
    model, expand = problem("fno", "l2")
    layout = trainable(model)
    v = torch.randn(len(layout), dtype=torch.float64)
    whole = GaussNewtonProduct(expand(), layout)(v)
    assert len(fused) == 4 and again  # two blocks, lifting and projection
    fused.clear(), again.clear()
    with parts_one_by_one():
        G = GaussNewtonProduct(expand(), layout)
    apart = G(v)
    assert not fused and not again
    assert close(apart, whole, 1e-12)
    expand()
    assert len(fused) == 4


def test_complex_residuals_are_refused():
    c = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    expansion = Expansion(c.abs().sum(), [Term(c * 2, torch.ones(2))])
    with pytest.raises(ValueError, match="residuals must be real; give view_as_real"):
        GaussNewtonProduct(expansion, ParameterVector([c]))
