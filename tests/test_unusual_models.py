"""Curvature of models that hold what ours do not: each is treated rightly, or refused by name."""

import math
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.optim import AdamW

from sciml.curvature import (
    EKFAC,
    KFAC,
    MFAC,
    MKOR,
    AdaHessian,
    NewtonCG,
    SpectralMuon,
    SpectralSOAP,
)
from sciml.curvature.capture import Capture
from sciml.curvature.coverage import cover
from sciml.curvature.regularisation import GradientNormalised, Outcome
from sciml.gauss_newton import Expansion, Term
from tests.gauss_newton import close

CIRCULAR = {"padding_mode": "circular", "padding": 1}
METHODS = [KFAC, EKFAC, MKOR, NewtonCG]


def objective(model: nn.Module, x: Tensor):
    """Half of the sum of squares of what the model makes of x."""

    def expansion(samples: int | None = None) -> Expansion:
        y = model(x[:samples])
        y = torch.view_as_real(y) if y.is_complex() else y
        return Expansion(y.square().sum() / 2, [Term(y, torch.ones_like(y))])

    return expansion


def attached(kind, model: nn.Module, x: Tensor, **settings):
    method = kind(AdamW(model.parameters(), lr=1e-2, weight_decay=0.0), **settings)
    method.attach(model, objective(model, x))
    return method


def step(method, model: nn.Module, x: Tensor) -> list[Tensor]:
    """How far one step moves each parameter."""
    before = [p.detach().clone() for p in model.parameters()]

    def closure() -> Tensor:
        method.zero_grad()
        loss = objective(model, x)().value
        loss.backward()
        return loss

    method.step(closure)
    return [(p.detach() - b).abs().max() for p, b in zip(model.parameters(), before, strict=True)]


class Tied(nn.Module):
    """Two convolutions with one weight, the second of another geometry."""

    def __init__(self, kind, **geometry):
        super().__init__()
        self.first, self.second = kind(3, 3, 3), kind(3, 3, 3, **geometry)
        self.second.weight, self.second.bias = self.first.weight, self.first.bias
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))


@pytest.mark.parametrize("kind", [nn.Conv1d, nn.ConvTranspose1d])
@pytest.mark.parametrize(
    "geometry",
    [
        {},
        {"padding": 2},
        {"stride": 3},
        {"dilation": 2},
        {"padding": 1, "padding_mode": "circular"},
    ],
    ids=str,
)
def test_convolutions_that_share_a_weight_see_their_own_patches(kind, geometry):
    """sum_t a_t g_t^T over both is autograd's gradient."""
    if kind is nn.ConvTranspose1d and "padding_mode" in geometry:
        pytest.skip("transposed convolutions have zeros alone")
    torch.manual_seed(0)
    model, x = Tied(kind, **geometry), torch.randn(4, 3, 20, dtype=torch.float64)
    (layer,) = cover(model).layers.values()
    with Capture(layer.watched, model) as capture:
        expansion = objective(model, x)()
    ((calls, _),) = capture.gradients(expansion, "empirical", [])
    tokens = layer.tokens(layer.seen(calls))
    expansion = objective(model, x)()
    expected = layer.join(list(torch.autograd.grad(expansion.value, layer.parameters)))
    found = tokens.a.mT @ tokens.g
    assert close(found / found.norm(), expected / expected.norm(), 1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_complex_layers_of_torch_have_a_diagonal(method, kind):
    torch.manual_seed(0)
    one = nn.Linear(4, 3) if kind == "linear" else nn.Conv1d(4, 3, 3)
    x = torch.randn(*((8, 4) if kind == "linear" else (8, 4, 9)), dtype=torch.complex128)
    model = nn.Sequential(one).to(torch.complex128)
    with pytest.warns(UserWarning, match="less than half|Less than half"):
        curved = attached(method, model, x)
        moved = step(curved, model, x)
    assert all(0 < d < 1 for d in moved)
    assert not cover(model).layers


@pytest.mark.parametrize("method", [KFAC, EKFAC, MKOR])
def test_parameters_that_are_not_the_models_are_refused(method):
    model, x = nn.Linear(3, 2), torch.randn(4, 3)
    extra = nn.Parameter(torch.ones(5))
    curved = method(AdamW([*model.parameters(), extra]))
    with pytest.raises(ValueError, match=r"1 parameters, the first of shape \(5,\), are none of"):
        curved.attach(model, objective(model, x))
    extra.requires_grad_(False)
    curved.attach(model, objective(model, x))


class Halved(nn.Module):
    """A linear layer whose bias is left out after a while."""

    def __init__(self):
        super().__init__()
        self.layer, self.whole = nn.Linear(3, 2), True

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if self.whole else x @ self.layer.weight.T


def test_a_layer_with_half_of_its_gradients_is_named():
    model, x = Halved(), torch.randn(4, 3)
    curved = attached(KFAC, model, x)
    step(curved, model, x)
    model.whole = False
    with pytest.warns(UserWarning, match="curvature of layer.* a part of its parameters has no"):
        assert not any(step(curved, model, x))
    assert curved.curvature.failures == {"layer": 1}


class Branches(nn.Module):
    """Two layers that are used by turns."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.turn = nn.Linear(3, 2), nn.Linear(3, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        if not self.turn:
            return self.left(x) + self.right(x)
        return (self.left, self.right)[self.turn % 2](x)


def test_newton_keeps_the_factors_of_a_branch_that_is_not_used():
    torch.manual_seed(0)
    model, x = Branches(), torch.randn(6, 3)
    curved = attached(NewtonCG, model, x, preconditioner="kfac")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*never called")
        for model.turn in range(12):
            step(curved, model, x)
    assert sorted(curved.preconditioner.layers) == ["left", "right"]


@pytest.mark.parametrize("preconditioner", ["kfac", "learned"])
def test_newton_does_without_any_layer(preconditioner):
    class Bare(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    model, x = Bare(), torch.randn(6, 3)
    with pytest.warns(UserWarning, match="less than half"):
        curved = attached(NewtonCG, model, x, preconditioner=preconditioner)
        assert all(step(curved, model, x))


def test_the_gradient_normalised_rule_knows_a_gradient_of_zero():
    rule = GradientNormalised(0.1)
    assert rule.damping(0.0) == 0.0
    assert rule.judge(Outcome(0.0, 0.0, 0.0))
    assert rule.damping(2.0) == pytest.approx(0.1)


@pytest.mark.parametrize("kind", [SpectralMuon, SpectralSOAP, AdaHessian])
def test_the_state_of_another_optimizer_is_refused(kind):
    model = nn.Linear(3, 2)
    with pytest.raises(ValueError, match=f"{kind.__name__}: the checkpoint is of another optimiz"):
        kind(model.parameters()).load_state_dict(AdamW(model.parameters()).state_dict())


def test_newton_says_that_all_is_frozen():
    model = nn.Linear(3, 2).requires_grad_(False)
    with pytest.raises(ValueError, match="all parameters are frozen"):
        attached(NewtonCG, model, torch.ones(4, 3))


def test_statistics_of_instance_norms_are_not_counted_twice():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 1), nn.InstanceNorm1d(3, track_running_stats=True))
    x = torch.randn(4, 2, 9)
    curved = attached(KFAC, model, x)
    step(curved, model, x)
    found = model[1].running_mean.clone()
    assert model[1].momentum == 0.1
    torch.manual_seed(0)
    again = nn.Sequential(nn.Conv1d(2, 3, 1), nn.InstanceNorm1d(3, track_running_stats=True))
    x = torch.randn(4, 2, 9)
    again(x)
    assert torch.equal(found, again[1].running_mean)


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        (KFAC, {"fisher": "exakt"}, "fisher=exakt must be one of monte_carlo, exact, empirical"),
        (EKFAC, {"sharing": "none"}, "sharing=none one of expand, reduce"),
        (EKFAC, {"eigenvalues": "exact"}, "eigenvalues=exact must be one of corrected, scaled"),
        (KFAC, {"exclude": "weight"}, "exclude='weight' must be a list"),
        (KFAC, {"damping": math.inf}, "damping=inf must be positive"),
        (NewtonCG, {"damping": math.nan}, "damping=nan must be positive"),
        (MKOR, {"stabiliser_period": 0}, "MKOR: stabiliser_period=0 must be a whole number"),
        (MFAC, {"max_memory_mb": -1}, "max_memory_mb=-1 positive"),
        (MFAC, {"max_memory_mb": math.nan}, "max_memory_mb=nan positive"),
        (MFAC, {"window": 20_000, "max_memory_mb": 100}, "set window to at most 35[0-9]{2},"),
    ],
)
def test_settings_that_mean_nothing_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(AdamW(nn.Linear(3, 2).parameters()), **settings)
