"""Hessian and Gauss-Newton matrix of a training loss as operators, beside dense ones."""

import pytest
import torch
from torch import nn

from sciml.curvature.operators import Objective, SampledLoss
from sciml.gauss_newton import Expansion
from sciml.losses import MeanSquaredError, RelativeH1, RelativeL2
from sciml.norms import dual_norm, dual_root
from sciml.tasks.part import Misfit, Missed
from solvers.grid import Grid
from tests.test_conf import build_model
from tests.tiny_losses import GRID, TinyNet, dense_hessian, tiny_loss


def labelled_and_missed(v, u):
    """As of a training with solutions and an equation: two terms."""
    residual = v.square() - u
    missed = Missed(lambda r: dual_norm(r, GRID), lambda r: dual_root(r, GRID), residual, 0.3)
    return [Misfit(RelativeH1(), v, u, GRID, 2.0), missed]


LOSSES = {
    "relative_l2": lambda v, u: [Misfit(RelativeL2(), v, u, GRID)],
    "relative_h1": lambda v, u: [Misfit(RelativeH1(), v, u, GRID)],
    "mean_squared": lambda v, u: [Misfit(MeanSquaredError(), v, u, GRID)],
    "two_terms": labelled_and_missed,
}


@pytest.mark.parametrize("batch_size", [2, 5])
@pytest.mark.parametrize("parts", LOSSES.values(), ids=LOSSES)
def test_hessian(parts, batch_size):
    """All columns at once, one by one, and as SciPy has it."""
    loss = tiny_loss(TinyNet(), parts, batch_size=batch_size)
    expected, operator = dense_hessian(loss), loss.hessian()
    one = torch.eye(len(expected), dtype=torch.float64)
    torch.testing.assert_close(operator @ one, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(operator @ one[:, 3], expected[:, 3], rtol=1e-10, atol=1e-10)
    assert abs(operator.to_scipy() @ one.numpy() - expected.numpy()).max() < 1e-10
    assert expected.abs().max() > 0.1 and (expected - expected.T).abs().max() < 1e-12


@pytest.mark.parametrize("batch_size", [2, 5])
@pytest.mark.parametrize("parts", LOSSES.values(), ids=LOSSES)
def test_gauss_newton(parts, batch_size):
    """J^T diag(weight) J of the terms, by the dense Jacobian of their residuals."""
    loss = tiny_loss(TinyNet(), parts, batch_size=batch_size)
    theta = loss.view.theta()
    expected = torch.zeros(len(theta), len(theta), dtype=torch.float64)
    for batch, _ in loss._data:
        for k, term in enumerate(loss.view.at(theta, batch).terms):

            def residual(t, batch=batch, k=k):
                return loss.view.at(t, batch).terms[k].residual.flatten()

            J = torch.autograd.functional.jacobian(residual, theta)
            weight = term.weight.expand_as(term.residual).reshape(-1, 1)
            expected += len(batch) / loss.samples * J.T @ (weight * J)
    V = torch.randn(len(theta), 8, dtype=torch.float64)
    torch.testing.assert_close(loss.gauss_newton() @ V, expected @ V, rtol=1e-10, atol=1e-10)
    assert expected.abs().max() > 0.1 and torch.linalg.eigvalsh(expected)[0] > -1e-12


def test_gauss_newton_is_the_hessian_of_a_linear_model_with_squares():
    net = nn.Linear(6, 6).double()
    loss = tiny_loss(net, LOSSES["mean_squared"])
    V = torch.randn(42, 8, dtype=torch.float64)
    found = loss.gauss_newton() @ V
    torch.testing.assert_close(found, dense_hessian(loss) @ V, rtol=1e-10, atol=1e-10)


def test_values_and_gradients():
    """L is the mean of its samples; so are its gradient, and its curvature along a vector."""
    loss = tiny_loss(TinyNet())
    theta, v = loss.view.theta(), torch.randn(57, dtype=torch.float64)

    def value(t):
        return sum(loss.view.at(t, b).value * len(b) for b, _ in loss._data) / loss.samples

    assert loss.value() == pytest.approx(float(value(theta)), rel=1e-12)
    assert loss.value(theta + v) == pytest.approx(float(value(theta + v)), rel=1e-12)
    expected = torch.autograd.functional.jacobian(value, theta)
    torch.testing.assert_close(loss.gradient(), expected, rtol=1e-10, atol=1e-12)
    each = torch.stack([loss.gradient(i) for i in range(5)])
    torch.testing.assert_close(each.mean(0), expected, rtol=1e-10, atol=1e-12)
    assert float(loss.curvatures(v).mean()) == pytest.approx(float(v @ dense_hessian(loss) @ v))
    assert loss.names == ["spectral", "inner.weight", "inner.bias", "outer.weight", "outer.bias"]


MODELS = {
    "fno": ("model.width=4", "model.modes=3", "model.depth=2"),
    "unet": (),
    "multionet": (),
    "message_passing": (),
    "neuralop_fno": ("model.settings.n_modes=4", "model.settings.hidden_channels=4"),
}


@pytest.mark.parametrize("name", MODELS)
def test_products_are_differences_of_gradients(name):
    """Of layers that PyTorch cannot differentiate forward over backward, and of complex weights,
    which neuraloperator has in single precision alone.
    """
    shape = (16,) if name == "multionet" else (16, 16)
    model = build_model(name, shape, (1, 1), MODELS[name]).eval()
    single = name == "neuralop_fno"
    if not single:
        model.double()
    loss = tiny_loss(model, grid=Grid.box(shape, boundary="periodic", points="left"), samples=2)
    theta = loss.view.theta()
    v = torch.randn(len(theta), dtype=torch.float64)
    v *= theta.norm() / v.norm()
    step = 1e-3 if single else 1e-5

    def gradient(t):
        total = sum(loss.view.at(t, b).value * len(b) / 2 for b, _ in loss._data)
        return torch.autograd.grad(total, t)[0]

    ends = [gradient((theta + sign * step * v).requires_grad_()) for sign in (1, -1)]
    expected, found = (ends[0] - ends[1]) / (2 * step), loss.hessian() @ v
    assert (found - expected).norm() < (1e-2 if single else 1e-6) * expected.norm()
    curved = loss.gauss_newton() @ v
    assert bool(curved.isfinite().all()) and float(v @ curved) > 0


def test_what_is_random_is_drawn_alike():
    """Noise in training is one draw for a batch; the state of the generator stays."""
    net = TinyNet()
    x = torch.randn(4, 1, 6, dtype=torch.float64)

    def expand(numbers):
        noisy = x[numbers] + torch.randn(len(numbers), 1, 6, dtype=torch.float64)
        part = Misfit(RelativeL2(), net(noisy), x[numbers], GRID)
        return Expansion(part.value(), [part.term()])

    loss = SampledLoss(Objective(net, expand, seed=3), 4, 2)
    state, v = torch.get_rng_state(), torch.ones(57, dtype=torch.float64)
    for operator in (loss.hessian(), loss.gauss_newton()):
        assert torch.equal(operator @ v, operator @ v)
    assert loss.value() == loss.value() and torch.equal(torch.get_rng_state(), state)
    assert loss.value() != SampledLoss(Objective(net, expand, seed=4), 4, 2).value()


def test_parameters_that_do_not_count():
    """A weight that the loss does not see, and one that it sees linearly."""
    net = TinyNet()
    net.unseen, net.shift = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    loss = tiny_loss(net, lambda v, u: [_Shifted(Misfit(RelativeL2(), v, u, GRID), net.shift)])
    found = loss.hessian() @ torch.eye(61, dtype=torch.float64)
    assert loss.names[1:3] == ["unseen", "shift"] and not found[12:16].any()
    assert not found[:, 12:16].any() and found.abs().max() > 0.1


class _Shifted(Misfit):
    def __init__(self, part, shift):
        super().__init__(part.loss, part.prediction, part.target, part.grid)
        object.__setattr__(self, "shift", shift)

    def value(self):
        return super().value() + self.shift.sum()
