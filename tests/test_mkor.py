"""Rank-one updates of inverses, and the return to first order."""

import copy
import math

import pytest
import torch

from sciml.curvature import MKOR
from sciml.curvature.tokens import Tokens
from tests.gauss_newton import close
from tests.test_kfac import optimizer, problem
from tests.test_kfac_exact import GRIDS, spectral

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("name", ["1-D", "2-D"])
def test_updates_are_the_inverse_of_the_moving_average(name):
    p = spectral(name)
    block = p.factored(kind=MKOR).blocks["convolution"]
    dense = [torch.linalg.inv(inverse) for inverse in block.inverses]
    for weight in (0.5, 0.3, 0.05):
        tokens = Tokens(
            torch.randn(len(dense[0]), 3, 2, dtype=torch.complex128),
            torch.randn(len(dense[0]), 3, 2, dtype=torch.complex128),
            0.5,
        )
        statistics = block.statistics(tokens)
        vectors = [torch.view_as_complex(statistics[i]) for i in (0, 2)]
        block.absorb(statistics, weight)
        for index, x in enumerate(vectors):
            outer = x[:, :, None] * x[:, None, :].conj()
            dense[index] = (1 - weight) * dense[index] + weight * outer
            assert close(block.inverses[index], torch.linalg.inv(dense[index]))


def test_sketches_have_the_factors_as_their_mean_square():
    """Where means of the inputs, the published choice, lose everything but the mean."""
    a = torch.randn(2, 6, 3, dtype=torch.complex128)
    a = a - a.mean(1, keepdim=True)
    tokens = Tokens(a, torch.randn(2, 6, 2, dtype=torch.complex128), torch.tensor([1.0, 0.5]))
    block = spectral("1-D").factored(kind=MKOR).blocks["convolution"]
    sums = [0, 0]
    for _ in range(4000):
        statistics = block.statistics(tokens)
        for index in range(2):
            x = torch.view_as_complex(statistics[2 * index])
            sums[index] = sums[index] + x[:, :, None] * x[:, None, :].conj() / 4000
    for found, factor in zip(sums, tokens.factors(), strict=True):
        assert close(found, factor, 0.08)
    for mean, factor in zip(block.statistics(tokens)[1::2], tokens.factors(), strict=True):
        assert close(mean, factor.diagonal(dim1=-2, dim2=-1).real.mean(-1))
    assert a.mean(1).norm() < 1e-14  # what would be left of A


@pytest.mark.parametrize("name", GRIDS)
def test_inverses_stay_positive_and_bounded(name):
    p = spectral(name, samples=2)
    curvature = p.factored(kind=MKOR, decay=0.5, damping=1e-2, floor=1e-2, fisher="monte_carlo")
    block = curvature.blocks["convolution"]
    bounded = []
    for _ in range(60):
        curvature.observe()
        curvature.refresh()
        for inverse in block.inverses:
            assert torch.linalg.eigvalsh(inverse).min() > 0
        bounded.append(max(float(inverse.abs().max()) for inverse in block.inverses))
    assert max(bounded[30:]) < 3 * max(bounded[:30])


def test_without_the_stabiliser_inverses_grow_without_bound():
    p = spectral("2-D", samples=1)
    p.x = p.x * torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)  # the second channel is never seen
    curvature = p.factored(kind=MKOR, decay=0.5, fisher="monte_carlo")
    largest = []
    for _ in range(60):
        curvature.observe()
        largest.append(float(curvature.blocks["convolution"].inverses[0].abs().max()))
    assert largest[-1] > 1e6 * largest[0]


def test_a_matrix_that_is_not_finite_starts_anew():
    curvature = spectral("2-D").factored(kind=MKOR)
    block = curvature.blocks["convolution"]
    block.inverses[0][1, 0, 0] = math.nan
    with pytest.warns(UserWarning, match="convolution, pass 1: 1 of its factors"):
        curvature.refresh()
    assert block.inverses[0].isfinite().all()
    assert close(block.inverses[0][1] * block.means[0][1], torch.eye(2).to(torch.complex128))


def fitted(steps, p, count: int) -> float:
    for _ in range(count):
        p.gradients()
        steps.step()
    return float(p.objective().value)


def test_it_falls_back_to_adamw_where_the_loss_stands():
    p = problem()
    steps = optimizer(p.model, MKOR, lr=1e-9, factor_period=1, fall_back=0.5)
    steps.attach(p.model, p.objective)
    steps._fastest = 1.0  # it has been faster
    fitted(steps, p, 19)
    assert not steps.has_fallen_back
    fitted(steps, p, 1)
    assert steps.has_fallen_back
    passes = steps.curvature.passes
    twin = copy.deepcopy(p.model)
    plain = torch.optim.AdamW(twin.parameters(), lr=1e-9, weight_decay=0.0)
    p.gradients()
    for a, b in zip(p.model.parameters(), twin.parameters(), strict=True):
        b.grad = a.grad.clone()
        if "exp_avg" in steps.state[a]:
            plain.state[b] = {
                "step": torch.tensor(float(steps.state[a]["step"])),
                "exp_avg": steps.state[a]["exp_avg"].clone(),
                "exp_avg_sq": steps.state[a]["exp_avg_sq"].clone(),
            }
            v = plain.state[b]["exp_avg_sq"]
            if v.shape != b.shape:
                plain.state[b]["exp_avg_sq"] = v[..., None].expand_as(b).clone()
    before = [q.detach().clone() for q in p.model.parameters()]
    steps.step()
    plain.step()
    assert steps.curvature.passes == passes
    names = dict(p.model.named_parameters())
    own, theirs = p.model.parameters(), twin.parameters()
    for name, q, r, b in zip(names, own, theirs, before, strict=True):
        if "entries" not in name:
            torch.testing.assert_close(q - b, r - b, rtol=1e-5, atol=1e-18)


def test_without_fall_back_it_goes_on():
    p = problem()
    steps = optimizer(p.model, MKOR, lr=1e-9, factor_period=1)
    steps.attach(p.model, p.objective)
    fitted(steps, p, 25)
    assert not steps.has_fallen_back
    assert steps.curvature.passes == 25


def test_it_learns_and_goes_on_from_its_state():
    p = problem(samples=16)
    first = float(p.objective().value)
    steps = optimizer(p.model, MKOR, lr=3e-2, fall_back=0.01)
    steps.attach(p.model, p.objective)
    assert fitted(steps, p, 60) < 0.5 * first
    state = copy.deepcopy(steps.state_dict())
    again = optimizer(p.model, MKOR, lr=3e-2, fall_back=0.01)
    again.attach(p.model, p.objective)
    again.load_state_dict(state)
    assert again.state_dict()["curvature"]["hybrid"] == state["curvature"]["hybrid"]
    for name, block in again.curvature.blocks.items():
        for key, value in block.state().items():
            assert torch.equal(value, state["curvature"]["blocks"][name][key])


def test_a_share_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="fall_back=1.5 must lie between 0 and 1"):
        optimizer(problem().model, MKOR, fall_back=1.5)
