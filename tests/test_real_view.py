"""Complex parameters seen as real ones: the same function, gradient and Hessian."""

import pytest
import torch
from torch import nn

from sciml.curvature.real_view import RealView, as_real
from sciml.models import Neuralop


class Pairs(nn.Module):
    """x -> |fft(x) w|^2 summed, with a complex weight stored as pairs of real numbers."""

    def __init__(self, weight: torch.Tensor):
        super().__init__()
        self.weight, self.bias = nn.Parameter(as_real(weight).clone()), nn.Parameter(torch.ones(2))

    def dense(self) -> torch.Tensor:
        return torch.view_as_complex(self.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.fft.ifft(torch.fft.fft(x) @ self.dense()).real.tanh()
        return (y * self.bias[0] + self.bias[1]).square().sum()


class Complex(Pairs):
    def __init__(self, weight: torch.Tensor):
        super().__init__(weight)
        self.weight = nn.Parameter(weight.clone())

    def dense(self) -> torch.Tensor:
        return self.weight


@pytest.fixture
def twins():
    weight = torch.randn(4, 4, dtype=torch.complex128)
    return RealView(Complex(weight).double()), RealView(Pairs(weight).double())


def test_a_complex_weight_is_the_same_as_its_pairs(twins):
    x = torch.randn(3, 4, dtype=torch.float64)
    thetas = [view.theta() for view in twins]
    assert torch.equal(*thetas) and len(thetas[0]) == 34 == sum(twins[0].sizes)
    for derivative in (torch.autograd.functional.jacobian, torch.autograd.functional.hessian):
        found = [derivative(lambda t, v=view: v.at(t, x), thetas[0]) for view in twins]
        torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)
        assert found[0].abs().max() > 0.1


def test_the_gradient_is_pytorch_s_as_pairs(twins):
    """Of a model of neuraloperator, whose weights are complex numbers in single precision."""
    model = Neuralop(
        1, 1, 1, architecture="FNO", settings={"n_modes": 4, "hidden_channels": 3, "n_layers": 2}
    )
    view, x = RealView(model), torch.randn(2, 1, 8)
    assert {p.dtype for p in view.parts} == {torch.float64}
    assert any(p.is_complex() for p in model.parameters())
    assert view.epsilon == torch.finfo(torch.float32).eps
    expected = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    found = torch.autograd.grad(view(x).square().sum(), list(view.parts))
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(as_real(a).double(), b, rtol=1e-5, atol=1e-6)


def test_other_weights_leave_the_module_alone(twins):
    view, _ = twins
    theta, x = view.theta(), torch.randn(3, 4, dtype=torch.float64)
    before = view(x)
    assert view.at(theta + 1, x) != before and torch.equal(view.at(theta, x), before)
    assert torch.equal(view(x), before) and torch.equal(view.theta(), theta)
    vector = torch.randn(34)
    assert torch.equal(view.join(view.split(vector)), vector)
    assert [part.shape for part in view.split(vector)] == [part.shape for part in view.parts]


def test_only_what_is_trained_is_seen():
    """Frozen weights stay; one weight under two names is one."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1))
    model[1].weight = model[0].weight
    model[2].requires_grad_(False)
    view, x = RealView(model), torch.randn(5, 3)
    assert view.names == ["0.weight", "0.bias", "1.bias"]
    torch.testing.assert_close(view(x), model(x))
    theta = view.theta()
    theta[:9] = 0  # of both layers
    expected = model[2](model[1].bias.expand(5, 3))
    torch.testing.assert_close(view.at(theta, x), expected)
    with pytest.raises(ValueError, match="Linear has no parameters to train"):
        RealView(model[2])
