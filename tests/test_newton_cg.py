"""Gauss-Newton steps by conjugate directions: exact where dense solves are, sound elsewhere."""

import math
import warnings

import pytest
import torch

from sciml.curvature.kronecker_preconditioner import KroneckerFactored
from sciml.curvature.learned_scaling import LearnedScaling
from sciml.curvature.newton_cg import PRECONDITIONERS, NewtonCG
from sciml.curvature.preconditioner import Jacobi
from sciml.curvature.regularisation import (
    Fixed,
    GradientNormalised,
    LevenbergMarquardt,
    Outcome,
)
from sciml.gauss_newton import Expansion
from tests.newton import (
    EXACT,
    Residuals,
    adamw,
    advance,
    curved_problem,
    linear_problem,
    newton,
    vector,
)

pytestmark = pytest.mark.usefixtures("double")


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
def test_linear_least_squares_are_solved_in_one_step(preconditioner):
    problem = linear_problem()
    A = torch.cat((problem.x.flatten(1), torch.ones(40, 1)), dim=1)
    exact = torch.linalg.lstsq(A, problem.y[..., 0]).solution
    options = EXACT | {"preconditioner": preconditioner, "regularisation": "fixed", "damping": 0.0}
    advance(problem, newton(problem, **options))
    layer = problem.model[1]
    found = torch.cat((layer.weight.T, layer.bias[None]))
    assert (found - exact).norm() <= 1e-10 * exact.norm()


@pytest.mark.parametrize("preconditioner", PRECONDITIONERS)
def test_a_step_is_the_dense_solution(preconditioner):
    problem = curved_problem()
    G, start = problem.dense(), vector(problem.model)
    g = torch.cat([v.flatten() for v in problem.gradients().values()])
    optimizer = newton(
        problem,
        **EXACT,
        preconditioner=preconditioner,
        regularisation="fixed",
        damping=0.05,
        backtracks=0,
    )
    optimizer.step()
    d = torch.linalg.solve(G + 0.05 * torch.eye(len(g)), -g)
    assert (vector(problem.model) - start - d).norm() <= 1e-9 * d.norm()
    assert optimizer.report.reason == "converged"
    predicted = -(g @ d + d @ G @ d / 2)
    decrease = optimizer.report.before - optimizer.report.after
    assert math.isclose(optimizer.report.ratio, decrease / predicted, rel_tol=1e-6)


def test_convergence_is_quadratic_without_residual():
    """y = a exp(b t) fitted to itself; the control is gradient descent."""
    t, exact = torch.linspace(0, 1, 9), torch.tensor([1.5, -0.7])
    problem = Residuals(
        lambda p: p[0] * torch.exp(p[1] * t) - exact[0] * torch.exp(exact[1] * t), [1.0, 0.3]
    )
    optimizer = newton(problem, **EXACT, regularisation="fixed", damping=0.0, preconditioner="none")
    errors = []
    for _ in range(5):
        advance(problem, optimizer)
        errors.append(float((problem.theta.detach() - exact).norm()))
    late = [e for e in errors if 1e-14 < e < 0.5]
    rates = [math.log(b) / math.log(a) for a, b in zip(late, late[1:], strict=False)]
    assert errors[-1] < 1e-12 and min(rates) > 1.7


def test_rosenbrock_in_two_steps():
    problem = Residuals(lambda p: torch.stack((10 * (p[1] - p[0] ** 2), 1 - p[0])), [-1.2, 1.0])
    optimizer = newton(
        problem,
        **EXACT,
        regularisation="fixed",
        damping=0.0,
        preconditioner="none",
        backtracks=0,
    )
    advance(problem, optimizer, 2)
    assert (problem.theta - 1).abs().max() < 1e-10


def test_rules():
    good, bad, fair = Outcome(0.8, 1.0, 0.1), Outcome(0.2, 1.0, 0.1), Outcome(0.5, 1.0, 0.1)
    nan = Outcome(math.nan, 1.0, math.nan)
    for outcome, factor in ((good, 2 / 3), (bad, 1.5), (fair, 1.0), (nan, 1.5)):
        rule = LevenbergMarquardt(0.3)
        assert rule.judge(outcome) and rule.damping(7.0) == pytest.approx(0.3 * factor)
    floored = LevenbergMarquardt(1e-8)
    assert floored.judge(good) and floored.damping(7.0) == 1e-8
    fixed = Fixed(0.3)
    assert fixed.judge(bad) and fixed.damping(7.0) == 0.3
    rule = GradientNormalised(0.5)
    assert rule.damping(2.0) == 0.5 and rule.radius == 4.0
    enough, little = (Outcome(f * 0.3**2 / (8 * 0.5), 1.0, 0.3) for f in (1.01, 0.99))
    assert not rule.judge(little) and rule.radius == 2.0 and rule.damping(2.0) == 1.0
    enough = Outcome(1.01 * 0.3**2 / 8, 1.0, 0.3)
    assert rule.judge(enough) and rule.radius == 4.0
    assert not rule.judge(nan) and rule.radius == 2.0
    again = GradientNormalised(9.0)
    again.load(rule.state())
    assert again.damping(2.0) == 1.0


def test_levenberg_marquardt_follows_the_model():
    """It is trusted more and more where it is exact, and less where it is not."""
    problem = linear_problem()
    optimizer = newton(problem, damping=1.0)
    advance(problem, optimizer, 5)
    assert optimizer.rule.value == pytest.approx((2 / 3) ** 5)
    problem = Residuals(lambda p: torch.atan(20 * p), [1.0])
    optimizer = newton(problem, damping=1e-6, preconditioner="none", backtracks=12)
    advance(problem, optimizer, 3)
    assert optimizer.rule.value == pytest.approx(1e-6 * 1.5**3)


def test_gradient_normalised_steps_stay_in_their_radius():
    """|d| <= gamma, progress as demanded, and lambda goes to zero with the gradient."""
    t = torch.linspace(0, 1, 9)
    curve = lambda p: p[0] * torch.exp(p[1] * t)  # noqa: E731
    problem = Residuals(lambda p: curve(p) - curve((1.5, -0.7)), [1.0, 0.3])
    options = EXACT | {"regularisation": "gradient_normalised", "preconditioner": "none"}
    optimizer = newton(problem, **options, damping=1.0)
    lambdas = []
    while (loss := problem.objective().value.item()) > 1e-18:
        start = problem.theta.detach().clone()
        problem.gradients()
        size = float(problem.theta.grad.norm())
        optimizer.step()
        lambdas.append(optimizer.report.damping)
        assert (problem.theta.detach() - start).norm() <= size / lambdas[-1] * (1 + 1e-9)
        problem.gradients()
        progress = problem.theta.grad.norm().item() ** 2 / (8 * lambdas[-1])
        assert loss - problem.objective().value.item() >= progress
    assert len(lambdas) < 12 and lambdas[-1] < 1e-4 * lambdas[0]


def test_backtracking_refuses_what_raises_the_loss():
    """Newton's method for r = atan(x) goes astray from |x| > 1.39. Control: without backtracking
    the loss rises.
    """
    options = EXACT | {"regularisation": "fixed", "damping": 0.0, "preconditioner": "none"}
    astray, kept = (Residuals(torch.atan, [3.0]) for _ in range(2))
    rising = advance(astray, newton(astray, **options, backtracks=0), 3)
    falling = advance(kept, newton(kept, **options), 6)
    assert rising[0] < rising[1] < rising[2]
    assert all(a >= b for a, b in zip(falling, falling[1:], strict=False))
    assert falling[-1] < 1e-10


def test_a_step_that_does_not_help_is_refused_and_named_once():
    problem = curved_problem()
    optimizer = newton(problem, preconditioner="none")
    start = [p.detach().clone() for p in problem.model.parameters()]
    messages = []
    for _ in range(2):
        problem.gradients()
        for p in problem.model.parameters():
            p.grad.neg_()  # uphill
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            optimizer.step()
        messages += [str(warning.message) for warning in caught]
        assert optimizer.report.share == 0
    (message,) = messages
    assert "step: 0.015625 of it still raises the loss; the parameters stay" in message
    assert optimizer.failures == {"step": 2}
    assert all(torch.equal(a, b) for a, b in zip(start, problem.model.parameters(), strict=True))


def test_a_curvature_that_is_not_finite_leaves_the_gradient():
    problem = curved_problem()
    expand = problem.objective

    def spoiled(samples=None):
        value, (term,) = expand(samples)
        return Expansion(value, [term.scaled(math.nan)])

    problem.objective = spoiled
    optimizer = newton(problem, preconditioner="none")
    start, damping = vector(problem.model), optimizer.rule.value
    g = torch.cat([v.flatten() for v in problem.gradients().values()])
    with pytest.warns(UserWarning, match="minus the gradient takes its place"):
        optimizer.step()
    d = vector(problem.model) - start
    assert torch.nn.functional.cosine_similarity(d, -g, dim=0) > 1 - 1e-12
    assert d.square().mean().sqrt() == pytest.approx(1e-2)  # the lr of AdamW
    assert optimizer.failures == {"conjugate directions": 1, "direction": 1}
    assert optimizer.rule.value == 1.5 * damping


def test_a_gradient_that_is_not_finite_moves_nothing():
    problem = curved_problem()
    optimizer = newton(problem)
    problem.gradients()
    next(problem.model.parameters()).grad[0] = math.inf
    start = vector(problem.model)
    with pytest.warns(UserWarning, match="gradient: it is not finite; the parameters stay"):
        optimizer.step()
    assert torch.equal(vector(problem.model), start)


def test_a_warm_start_goes_on_from_the_last_direction():
    """Solving the same system twice; control: without it all iterations are needed again."""
    counts = {}
    for decay in (1.0, 0.0):
        torch.manual_seed(0)
        problem = curved_problem()
        options = EXACT | {"decay": decay, "tolerance": 1e-6, "preconditioner": "none"}
        optimizer = newton(problem, **options, regularisation="fixed", damping=0.1)
        start = vector(problem.model)
        for _ in range(2):
            optimizer.layout.assign(start)
            advance(problem, optimizer)
        counts[decay] = optimizer.report.iterations
    assert counts[1.0] == 0 < counts[0.0]


@pytest.mark.parametrize(
    "options, message",
    [
        (
            {"preconditioner": "ilu"},
            "preconditioner=ilu must be one of none, jacobi, kfac, learned",
        ),
        ({"regularisation": "lm"}, "regularisation=lm must be one of fixed, levenberg"),
        ({"lr": 0.0}, "lr=0.0 must be positive"),
        ({"decay": 1.5}, "decay=1.5 and backtracks|decay=1.5 from 0 to 1"),
        ({"damping": 0.0}, "only regularisation=fixed may have 0"),
        ({"damping": -1.0, "regularisation": "fixed"}, "damping=-1.0 must be positive"),
        ({"max_iterations": 0}, "max_iterations=0 must be at least 1"),
        ({"progress": 0.0}, "progress=0.0 positive"),
        ({"samples": 0}, "samples=0 must be at least 1, or null"),
        ({"preconditioner": "jacobi"}, None),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(options, message):
    model = curved_problem().model
    if message is None:
        NewtonCG(adamw(model), **options)
    else:
        with pytest.raises(ValueError, match=message):
            NewtonCG(adamw(model), **options)


def test_bad_parts_are_refused():
    model = curved_problem().model
    with pytest.raises(ValueError, match="set optimizer=adamw, or curvature=none"):
        NewtonCG(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match="optimizer.lr must be positive"):
        NewtonCG(adamw(model, lr=0.0))
    with pytest.raises(ValueError, match=r"call attach\(model, objective\) before step"):
        NewtonCG(adamw(model)).step()
    with pytest.raises(ValueError, match="exponent=2 must lie in"):
        Jacobi(exponent=2)
    with pytest.raises(ValueError, match="period=0 must be at least 1"):
        KroneckerFactored(period=0)
    with pytest.raises(ValueError, match="hidden=0 must be at least 1"):
        LearnedScaling(hidden=0)
