"""Steps of AdamW's length in given directions: what is not finite stays out of everything."""

import math

import pytest
import torch
from torch import nn

from sciml.curvature.finite import NonFiniteError
from sciml.curvature.moments import Moments

SHAPES = ((3, 4), (5,), (2, 2))
LR, DECAY = 1e-2, 0.1


def weights() -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [
        nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))
        for shape in SHAPES
    ]


def after(directions: dict[int, torch.Tensor], lr: float = LR, **options) -> tuple:
    """The weights after one step in these directions, and which of them were left out."""
    parameters = weights()
    moments = Moments(torch.optim.AdamW(parameters, lr=lr, weight_decay=DECAY), set())
    for p in parameters:
        p.grad = p.detach().sin()
    with torch.no_grad():
        moments.update()
        left = moments.move([(parameters[i], d) for i, d in directions.items()], **options)
    names = {id(p): i for i, p in enumerate(parameters)}
    return [p.detach() for p in parameters], [names[id(p)] for p in left]


def directions() -> dict[int, torch.Tensor]:
    return {i: p.detach().sin() * (i + 1) for i, p in enumerate(weights())}


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200], ids=["nan", "inf", "overflow"])
@pytest.mark.parametrize("bound", [None, 1e-6, 1e6], ids=["free", "bounded", "within the bound"])
@pytest.mark.parametrize("graft", [True, False])
def test_what_is_not_finite_stays_and_does_not_count(graft, bound, bad):
    """The others move and decay as if it were not there."""
    given = directions()
    given[1] = torch.full_like(given[1], bad)
    moved, left = after(given, graft=graft, bound=bound)
    del given[1]
    expected, _ = after(given, graft=graft, bound=bound)
    assert left == [1]
    assert torch.equal(moved[1], weights()[1].detach())  # not even by weight decay
    for i in (0, 2):
        torch.testing.assert_close(moved[i], expected[i], rtol=1e-14, atol=0)
        assert not torch.equal(moved[i], weights()[i].detach())


@pytest.mark.parametrize("bound", [None, 1e-6])
def test_a_step_of_which_nothing_is_finite_is_an_error(bound):
    given = {i: d * math.nan for i, d in directions().items()}
    with pytest.raises(NonFiniteError, match=r"no tensor is finite\. .* Lower optimizer\.lr"):
        after(given, bound=bound)


def test_a_bound_takes_any_rate():
    """What is as long as the bound allows does not grow with the rate."""
    ends = [after(directions(), lr=lr, bound=1e-6)[0] for lr in (1e3, 1e9)]
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_the_bound_holds_the_change_that_the_curvature_predicts():
    """sum d.P^(-1) d, where P is the diagonal matrix that makes these directions."""
    given = directions()
    before = weights()
    moved, _ = after(given, bound=1e-6)
    change = 0.0
    for i, p in enumerate(before):
        shrunk = p.detach() * (1 - LR * DECAY * share(moved[i], p.detach(), given[i]))
        d = moved[i] - shrunk
        change += float((d * d).sum()) * 0.1 / (i + 1)  # m is 0.1 of the gradient
    assert change == pytest.approx(1e-6, rel=1e-6)


def share(moved: torch.Tensor, start: torch.Tensor, direction: torch.Tensor) -> float:
    """Of the weight decay, from moved = (1 - lr decay s) start - c direction."""
    columns = torch.stack([start.reshape(-1), direction.reshape(-1)], dim=1)
    found = torch.linalg.lstsq(columns, moved.reshape(-1, 1)).solution
    return float((1 - found[0, 0]) / (LR * DECAY))
