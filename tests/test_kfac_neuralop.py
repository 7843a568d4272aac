"""K-FAC on the spectral convolutions of neuraloperator, which computes in float32 alone."""

import pytest
import torch
from neuralop.layers.spectral_convolution import SpectralConv

from sciml.curvature import EKFAC, KFAC, MKOR
from sciml.curvature.coverage import cover
from sciml.curvature.parameter_vector import real
from sciml.losses import RelativeL2
from sciml.models import Neuralop
from tests.gauss_newton import Problem
from tests.helpers import smooth_pairs

CASES = {  # grid, modes of both signs
    "1-D": ((8,), (6,)),
    "1-D Nyquist": ((6,), (6,)),
    "2-D": ((6, 6), (4, 4)),
    "2-D Nyquist": ((4, 6), (4, 4)),
    "2-D coarser than the modes": ((4, 4), (6, 6)),
    "3-D": ((4, 4, 6), (2, 2, 4)),
}
RULE = "sciml.curvature.neuralop_spectral.multiplicity"


def single(name: str, samples: int = 6) -> Problem:
    torch.manual_seed(0)
    shape, modes = CASES[name]
    model = SpectralConv(2, 2, modes, bias=False)
    return Problem(model, torch.randn(samples, 2, *shape), torch.randn(samples, 2, *shape))


def after_a_whole_step(problem: Problem) -> float:
    """The loss, once the step without damping is taken."""
    kfac = problem.factored()
    (name,) = kfac.blocks
    block, layer = kfac.blocks[name], kfac.coverage.layers[name]
    assert block.refresh(1e-12, 0.0) == 0
    (p,) = problem.model.parameters()
    (gradient,) = problem.gradients().values()
    with torch.no_grad():
        (d,) = layer.split(block.apply(layer.join([real(gradient)])))
        real(p).sub_(d)
    return float(problem.objective().value.detach())


def least_squares(problem: Problem) -> float:
    """The lowest loss that the layer can have."""
    (p,) = problem.model.parameters()
    numbers = real(p.detach())
    columns = []
    with torch.no_grad():
        for j in range(numbers.numel()):
            numbers.zero_()
            numbers.view(-1)[j] = 1
            columns.append(problem.model(problem.x).flatten())
        J, y = torch.stack(columns, 1).double(), problem.y.flatten().double()
        rest = J @ torch.linalg.lstsq(J, y, driver="gelsd").solution - y
    return float(problem.loss(rest.view_as(problem.y), torch.zeros_like(problem.y), None).mean())


@pytest.mark.parametrize("name", CASES)
def test_one_step_reaches_the_least_squares_optimum(name):
    problem = single(name)
    assert after_a_whole_step(problem) == pytest.approx(least_squares(problem), rel=1e-5)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("factor", [0.5, 1.0])
def test_another_rule_for_real_and_imaginary_parts_misses_it(monkeypatch, name, factor):
    monkeypatch.setattr(RULE, lambda kept, grid: torch.full(tuple(kept), factor))
    problem = single(name)
    assert after_a_whole_step(problem) > least_squares(problem) * (1 + 1e-3)


@pytest.mark.parametrize("name", CASES)
def test_tokens_make_the_gradient(name):
    """Of the loss itself, whose one draw is the empirical one of a single sample."""
    problem = single(name, samples=1)
    with pytest.warns(UserWarning, match="empirical"):
        kfac = problem.kfac(fisher="empirical").curvature
    found = []
    (layer,) = kfac.coverage.layers.values()
    tokens = layer.tokens
    layer.tokens = lambda calls: found.append(tokens(calls)) or found[0]
    kfac.observe()
    G = torch.einsum("kti,kto->kio", found[0].a, found[0].g)
    (made,) = layer.split(G)
    (gradient,) = problem.gradients().values()
    torch.testing.assert_close(made, real(gradient), rtol=1e-4, atol=1e-7)


def test_nothing_of_it_stays_in_the_model():
    problem = single("2-D")
    before, function = problem.model.state_dict().keys(), problem.model._contract
    out = problem.model(problem.x)
    problem.factored()
    assert problem.model._contract is function and "_contract" in vars(problem.model)
    assert problem.model.state_dict().keys() == before
    assert not list(problem.model.children())[1:]
    torch.testing.assert_close(problem.model(problem.x), out, rtol=0, atol=0)


UNO = {
    "n_layers": 3,
    "channel_mlp_skip": "linear",
    "uno_out_channels": [6, 6, 6],
    "uno_n_modes": [4, 4, 4],
    "uno_scalings": [1.0, 1.0, 1.0],
}


def fno(architecture: str = "FNO", **settings) -> Neuralop:
    torch.manual_seed(0)
    chosen = {"hidden_channels": 6, "n_layers": 2} | (settings or {"n_modes": 4})
    return Neuralop(1, 1, 2, architecture=architecture, settings=chosen)


def test_an_fno_is_covered_and_a_factorised_one_is_named():
    assert cover(fno()).share > 0.97
    assert cover(fno("UNO", **UNO)).share > 0.9
    rest = cover(fno("TFNO", factorization="Tucker", rank=0.5, n_modes=4)).rest
    assert any("convs" in name and "no layer" in why for name, why in rest.items())


@pytest.mark.parametrize("kind, share", [(KFAC, 0.8), (EKFAC, 0.8), (MKOR, 2.0)])
def test_it_learns_beside_adamw_per_step(kind, share):
    """K-FAC and EK-FAC faster; of MKOR no more than that it learns."""
    a, u = (torch.tensor(x[:, None], dtype=torch.float32) for x in smooth_pairs(16, (8, 8), 1))
    ends = {}
    for name in ("adamw", "kfac"):
        p = Problem(fno(), a, u, RelativeL2())
        steps = torch.optim.AdamW(p.model.parameters(), lr=3e-2, weight_decay=0.0)
        if name == "kfac":
            steps = kind(steps)
            steps.attach(p.model, p.objective)
        for _ in range(60):
            p.gradients()
            steps.step()
        ends[name] = float(p.objective().value.detach())
    assert ends["kfac"] < share * ends["adamw"]
