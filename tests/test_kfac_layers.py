"""Convolutions, DeepONet, and what a model may do to its layers."""

from functools import partial

import pytest
import torch
from torch import nn

from sciml.curvature import KFAC
from sciml.curvature.coverage import cover
from sciml.curvature.tokens import Call
from sciml.layers import JetLinear, PerceptronBranch, Trunk
from sciml.losses import RelativeL2
from sciml.models import DeepONet, MgNO
from solvers.grid import Grid
from tests.gauss_newton import Problem, close, factors, flat, in_layer_order

pytestmark = pytest.mark.usefixtures("double")


CONVOLUTIONS = {
    "plain": (nn.Conv1d(2, 3, 3), (7,)),
    "padded": (nn.Conv2d(2, 3, 3, padding=1), (4, 5)),
    "same": (nn.Conv2d(2, 3, (3, 2), padding="same"), (4, 5)),
    "circular": (nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (4, 5)),
    "reflected": (nn.Conv1d(2, 3, 3, padding=1, padding_mode="reflect"), (5,)),
    "replicated": (nn.Conv3d(2, 2, 3, padding=1, padding_mode="replicate"), (2, 3, 2)),
    "strided": (nn.Conv2d(2, 3, 3, stride=2, padding=(1, 0)), (6, 7)),
    "dilated": (nn.Conv2d(2, 3, (2, 3), dilation=(3, 2), padding=2), (6, 7)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 5)),
    "depthwise": (nn.Conv1d(3, 3, 3, groups=3, padding=1, bias=False), (6,)),
    "all": (
        nn.Conv2d(4, 2, 3, stride=2, dilation=2, groups=2, padding=2, padding_mode="circular"),
        (7, 6),
    ),
    "transposed": (nn.ConvTranspose2d(2, 3, 4, stride=2, padding=1), (3, 4)),
    "transposed 1-D": (nn.ConvTranspose1d(2, 3, 3, bias=False), (5,)),
    "transposed all": (
        nn.ConvTranspose2d(4, 6, 3, stride=3, dilation=2, groups=2, padding=1, output_padding=1),
        (3, 2),
    ),
    "transposed 3-D": (nn.ConvTranspose3d(2, 2, 2, stride=2), (2, 1, 2)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_tokens_of_convolutions_make_their_gradients(name):
    """sum a g^T over all patches is the gradient that autograd finds, and so G is a sum of them."""
    module, shape = CONVOLUTIONS[name]
    module = module.double()
    model = nn.Sequential(module)
    x = torch.randn(3, module.in_channels, *shape)
    problem = Problem(model, x, torch.randn_like(model(x).detach()))
    kfac = problem.factored(fisher="empirical")
    layer = kfac.coverage.layers["0"]
    out = module(x)
    (g,) = torch.autograd.grad(problem.expand(out, problem.y).value, out)
    tokens = layer.tokens({"layer": [Call(module, (x,), g)]})
    expected = [problem.gradients()[f"0.{n}"] for n in ("weight", "bias")[: len(layer.parameters)]]
    found = layer.split(torch.matmul(tokens.a.mT, tokens.g))
    for a, b in zip(found, expected, strict=True):
        assert close(a, b, 1e-12)
    for a, b in zip(layer.split(layer.join(expected)), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_with_one_patch_per_loss_are_exact(name):
    """The loss looks at one point, or a transposed one is given one: nothing is shared."""
    module, shape = CONVOLUTIONS[name]
    module = module.double()
    transposed = isinstance(module, nn.modules.conv._ConvTransposeNd)
    x = torch.randn(4, module.in_channels, *([1] * len(shape) if transposed else shape))
    seen = flat(lambda u: u) if transposed else flat(lambda u: u.flatten(2)[..., :1])
    model = nn.Sequential(flat(lambda x: x), module, seen)
    problem = Problem(model, x, torch.randn_like(model(x).detach()))
    kfac = problem.factored()
    layer = kfac.coverage.layers["1"]
    A, B = factors(kfac, "1")
    names = [f"1.{n}" for n in ("weight", "bias")[: len(layer.parameters)]]
    dense = in_layer_order(problem.dense(*names), layer)
    K, i, o = layer.shape
    dense = dense.view(K, i * o, K, i * o)
    if not transposed:  # A is the mean over all patches: take that of the one
        one = layer.tokens({"layer": [Call(module, (x,), torch.zeros_like(module(x)))]}).a
        one = one.unflatten(1, (len(x), -1))[:, :, 0]
        A = one.mT @ one / len(x)
    for k in range(K):
        assert close(torch.kron(A[k], B[k]), dense[k, :, k])


def operator() -> DeepONet:
    grid = Grid.box((6,), boundary="neumann", points="cells")
    branch, trunk = partial(PerceptronBranch, widths=(4,)), partial(Trunk, widths=(4,))
    return DeepONet(1, 1, 1, grid=grid, features=3, branch=branch, trunk=trunk)


def linear(model: nn.Module) -> nn.Module:
    """Without activations."""
    for part in model.modules():
        for name, child in part.named_children():
            if isinstance(child, nn.GELU):
                setattr(part, name, nn.Identity())
    return model


def test_branch_and_trunk_of_linear_nets_are_exact():
    """The trunk's batch are the points, not samples times points."""
    model = linear(operator())
    problem = Problem(model, torch.randn(4, 1, 6), torch.randn(4, 1, 6))
    kfac = problem.factored()
    for name, layer in kfac.coverage.layers.items():
        names = [f"{name}.weight", f"{name}.bias"]
        A, B = factors(kfac, name)
        dense = problem.dense(*names)
        assert close(torch.kron(A[0], B[0]), in_layer_order(dense, layer)), name
    trunk = next(n for n in kfac.coverage.layers if n.startswith("trunks"))
    z = model.trunks[0].coordinates(model.grid.mesh().flatten(1).T)
    z = torch.cat((z, torch.ones(6, 1)), 1)
    assert close(factors(kfac, trunk)[0][0], z.T @ z / 6)


def test_factors_of_last_layers_are_gram_matrices():
    """G = sum_b c T^T T of the branch's last layer, and of the trunk's that of the coefficients."""
    model = linear(operator())
    problem = Problem(model, torch.randn(4, 1, 6), torch.randn(4, 1, 6))
    t = model.functions(model.grid.mesh().flatten(1).T)[0][:, 0]
    b = model.coefficients(problem.x, model.grid)[:, 0]
    weight = 2 / (4 * 6)  # of a mean of squares over samples and points
    branch, trunk = (
        [n for n in problem.factored().coverage.layers if n.startswith(kind)][-1]
        for kind in ("branches", "trunks")
    )
    assert close(problem.factors(branch)[1][0], 4 * weight * t.T @ t)
    assert close(problem.factors(trunk)[1][0], 6 * weight * b.T @ b)
    sampled = problem.factors(trunk, fisher="monte_carlo", passes=1000)
    assert close(sampled[1][0], 6 * weight * b.T @ b, 0.1)
    with pytest.warns(UserWarning, match="mixes samples in layers that serve all of them"):
        empirical = problem.factors(trunk, fisher="empirical")
    assert not close(empirical[1][0], 6 * weight * b.T @ b, 0.02)


def test_mgno_is_covered_by_convolutions():
    grid = Grid.box((8, 8))
    coverage = cover(MgNO(1, 1, 2, grid=grid, width=4, depth=2))
    kinds = {layer.kind for layer in coverage.layers.values()}
    assert kinds == {"convolution", "transposed convolution"}
    assert coverage.share == 1


def test_layers_called_twice_have_the_tokens_of_both_calls():
    layer = nn.Linear(3, 3)

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return self.layer(self.layer(x).tanh())

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
            self.first.load_state_dict(layer.state_dict())
            self.second.weight, self.second.bias = self.first.weight, self.first.bias

        def forward(self, x):
            return self.second(self.first(x).tanh())

    x, y = torch.randn(4, 5, 3), torch.randn(4, 5, 3)
    twice, tied = Problem(Twice(), x, y), Problem(Tied(), x, y)
    A, B = twice.factors("layer")
    h = torch.cat((x, layer(x).tanh())).reshape(-1, 3)
    h = torch.cat((h, torch.ones(len(h), 1)), 1)
    assert close(A[0], h.T @ h / len(h))
    for one, other in zip(tied.factors("first"), (A, B), strict=True):
        assert close(one, other)
    assert list(tied.factored().coverage.layers) == ["first"]


def test_layers_called_by_keyword_are_seen():
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x):
            return self.layer(input=x)

    x = torch.randn(4, 5, 3)
    A, _ = Problem(Named(), x, torch.randn(4, 5, 2)).factors("layer")
    ones = torch.cat((x, torch.ones(4, 5, 1)), -1).reshape(-1, 4)
    assert close(A[0], ones.T @ ones / len(ones))


class Odd(nn.Module):
    """A frozen layer, an unused one, one whose weight is read without a call, and a gate."""

    def __init__(self):
        super().__init__()
        self.used, self.frozen, self.unused = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        self.read, self.gate = nn.Linear(3, 3), nn.Parameter(torch.ones(3))
        self.frozen.requires_grad_(False)

    def forward(self, x):
        return self.gate * nn.functional.linear(self.frozen(self.used(x)), self.read.weight)


def test_what_is_frozen_or_not_called_is_named():
    problem = Problem(Odd(), torch.randn(4, 5, 3), torch.randn(4, 5, 3))
    with pytest.warns(UserWarning, match="is never called as a module") as warned:
        optimizer = problem.kfac()
        kfac = optimizer.curvature
        kfac.observe()
    named = " ".join(str(w.message) for w in warned)
    assert "read" in named and "unused" in named and "frozen" not in named
    assert list(kfac.coverage.layers) == ["used"]
    assert kfac.coverage.rest["read.weight"] == "its layer is never called"
    assert kfac.coverage.rest["gate"] == "no layer with known factors holds it"
    assert not any("frozen" in name for name in kfac.coverage.sizes)
    before = {n: p.clone() for n, p in problem.model.named_parameters()}
    problem.gradients()
    optimizer.step()
    moved = {n for n, p in problem.model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == {"used.weight", "used.bias", "read.weight", "gate"}


def test_less_than_half_in_layers_is_a_warning():
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(100), nn.GroupNorm(1, 100))
    with pytest.warns(UserWarning, match="Less than half: expect little"):
        KFAC(torch.optim.AdamW(model.parameters())).attach(model, lambda samples: None)


def test_excluded_parameters_get_a_diagonal():
    problem = Problem(
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), torch.randn(4, 2, 3), torch.randn(4, 2, 3)
    )
    kfac = problem.factored(exclude=["^0.bias$"])
    assert list(kfac.coverage.layers) == ["1"]
    assert kfac.coverage.rest == {"0.weight": "excluded", "0.bias": "excluded"}


def test_a_weight_in_layers_of_two_kinds_gets_a_diagonal():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.conv = nn.Linear(3, 3, bias=False), nn.Conv1d(3, 3, 1)
            self.linear.weight = nn.Parameter(torch.randn(3, 3, 1)[..., 0])
            self.conv2 = nn.Conv1d(3, 3, 1, bias=False)
            self.conv2.weight = self.conv.weight

        def forward(self, x):
            return self.conv2(self.conv(self.linear(x.mT).mT))

    problem = Problem(Both(), torch.randn(4, 3, 5), torch.randn(4, 3, 5))
    kfac = problem.factored()
    assert list(kfac.coverage.layers) == ["linear"]
    assert kfac.coverage.rest["conv.weight"] == "shared by conv and conv2"


def test_one_sample_and_a_loss_with_a_root():
    model = nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 5))
    problem = Problem(model, torch.randn(1, 1, 5), torch.randn(1, 1, 5), RelativeL2())
    kfac = KFAC(torch.optim.AdamW(model.parameters(), lr=1e-2))
    kfac.attach(model, problem.objective)
    first = float(problem.objective().value)
    for _ in range(200):
        problem.gradients()
        kfac.step()
    assert float(problem.objective().value) < 0.05 * first


def test_layers_on_jets_are_exact_for_values_and_derivatives():
    """Of the last layer, on any function of values and derivatives; only values meet the bias."""
    hidden, last = JetLinear(2, 4), JetLinear(4, 1)

    class Jets(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.last = hidden, last

        def forward(self, x):  # [b, 1, 2] as one point per sample: value and two derivatives
            jet = torch.stack((x[:, 0], *torch.eye(2).expand(len(x), 2, 2).unbind(1)))
            z = self.hidden(jet)
            h = torch.cat((z[:1].tanh(), (1 - z[:1].tanh().square()) * z[1:]))
            return self.last(h).movedim(0, 2)

    model = Jets()
    x = torch.randn(6, 1, 2)
    problem = Problem(model, x, torch.randn(6, 1, 3))
    values = model(x)[..., 0]
    assert close(values, last(hidden(x[None, :, 0]).tanh())[0])  # on values alone, as nn.Linear
    layer = problem.factored().coverage.layers["last"]
    A, B = problem.factors("last")
    dense = in_layer_order(problem.dense("last.weight", "last.bias"), layer)
    assert close(torch.kron(A[0], B[0]), dense)
    assert problem.factored().coverage.share == 1
    with pytest.raises(ValueError, match=r"expected jets \[s, b, 2\]"):
        hidden(x[:, 0])
