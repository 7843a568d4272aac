"""Gauss-Newton steps by conjugate directions: exact where a dense solve is, sound elsewhere."""

import io
import math
import warnings

import pytest
import torch
from lightning import Trainer
from torch import distributed as dist
from torch import multiprocessing, nn

from datasets import DataModule
from sciml.curvature.batch_loss import BatchLoss
from sciml.curvature.kronecker_preconditioner import KroneckerFactored
from sciml.curvature.learned_scaling import LearnedScaling
from sciml.curvature.newton_cg import PRECONDITIONERS, NewtonCG
from sciml.curvature.newton_system import Limits, NewtonSystem
from sciml.curvature.parameter_vector import ParameterVector
from sciml.curvature.preconditioner import Identity, Jacobi, Preconditioner
from sciml.curvature.regularisation import (
    Fixed,
    GradientNormalised,
    LevenbergMarquardt,
    Outcome,
)
from sciml.gauss_newton import Expansion, Term
from sciml.losses import RelativeL2
from sciml.models import FNO
from sciml.runtime.interruption import Interrupted
from sciml.tasks import Constant
from solvers.grid import Grid
from tests.gauss_newton import Problem
from tests.helpers import smooth_pairs
from tests.test_resume import MODELS, STOP, same_weights, train  # noqa: F401
from tests.test_tasks import QUIET, learner, pairs  # noqa: F401

EXACT = {"tolerance": 1e-13, "max_iterations": 500, "progress": None, "decay": 0.0}
GRID = Grid.box((8, 8), boundary="periodic", points="left")


@pytest.fixture(autouse=True)
def double():
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def adamw(model: nn.Module, **options) -> torch.optim.AdamW:
    return torch.optim.AdamW(model.parameters(), **{"lr": 1e-2, "weight_decay": 0.0} | options)


def newton(problem, **options) -> NewtonCG:
    optimizer = NewtonCG(adamw(problem.model), **options)
    optimizer.attach(problem.model, problem.objective)
    return optimizer


def advance(problem, optimizer: NewtonCG, steps: int = 1) -> list[float]:
    """Losses before each step and after the last."""
    losses = []
    for _ in range(steps):
        problem.gradients()
        optimizer.step()
        losses.append(optimizer.report.before)
    return [*losses, problem.objective().value.item()]


def vector(model: nn.Module) -> torch.Tensor:
    return ParameterVector(model.parameters()).values()


def linear_problem() -> Problem:
    """Least squares with 3 (4 + 1) unknowns, badly scaled."""
    x = torch.randn(40, 4, 1) * torch.tensor([1.0, 10.0, 0.1, 3.0]).view(1, 4, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Unflatten(1, (3, 1)))
    return Problem(model, x, torch.randn(40, 3, 1))


def curved_problem(model: nn.Module | None = None) -> Problem:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    model = model or nn.Sequential(*net, nn.Unflatten(1, (2, 1)))
    return Problem(model, torch.randn(12, 3, 1), torch.randn(12, 2, 1))


def operator_problem(samples: int = 6) -> Problem:
    model = FNO(1, 1, 2, grid=GRID, width=4, modes=2, depth=2).double()
    a, u = (torch.tensor(x[:, None]) for x in smooth_pairs(samples, (8, 8), 1))
    return Problem(model, a, u, RelativeL2())


class Residuals:
    """The loss |r(theta)|^2 / 2 of a function of one tensor."""

    def __init__(self, function, start):
        self.function, self.model = function, nn.ParameterList([torch.tensor(start)])

    @property
    def theta(self) -> torch.Tensor:
        return self.model[0]

    def objective(self, samples=None) -> Expansion:
        r = self.function(self.theta)[None]
        return Expansion(r.square().sum() / 2, [Term(r, torch.ones_like(r))])

    def gradients(self) -> None:
        self.theta.grad = None
        self.objective().value.backward()


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


class Noisy(nn.Module):
    """Dropout, batch normalisation, and noise on the input."""

    def __init__(self):
        super().__init__()
        self.parts = nn.Sequential(
            nn.Flatten(), nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.3)
        )
        self.last = nn.Linear(8, 2)

    def forward(self, x):
        return self.last(self.parts(x + 0.1 * torch.randn_like(x)))[..., None]


def test_the_loss_is_that_of_the_closure_whatever_is_random():
    """Also its statistics count once. Control: evaluated again without replay it is another one."""
    problem = curved_problem(Noisy())
    optimizer = newton(problem, preconditioner="none", lr=0.5)
    norm, losses = problem.model.parts[2], []

    def closure():
        optimizer.zero_grad()
        losses.append(problem.objective().value)
        losses[-1].backward()
        return losses[-1]

    torch.manual_seed(5)
    optimizer.step(closure)
    after, counted = torch.get_rng_state(), norm.running_mean.clone()
    assert optimizer.report.before == losses[0].item()
    assert optimizer.report.after < optimizer.report.before
    assert norm.num_batches_tracked == 1 and norm.track_running_stats
    torch.manual_seed(5)
    twin = curved_problem(Noisy())
    torch.manual_seed(5)
    problem.objective()
    assert torch.equal(torch.get_rng_state(), after)  # as after one evaluation
    assert not torch.equal(norm.running_mean, counted)
    batch = BatchLoss(twin.objective, twin.model, ParameterVector(twin.model.parameters()))
    assert batch.value() == batch.value()
    assert twin.objective().value.item() != twin.objective().value.item()


def test_frozen_parameters_stay():
    problem = curved_problem()
    frozen = problem.model[1].weight.requires_grad_(False)
    before = frozen.clone()
    optimizer = newton(problem)
    losses = []
    for _ in range(3):
        problem.model.zero_grad()
        problem.objective().value.backward()
        optimizer.step()
        losses.append(optimizer.report.after)
    assert torch.equal(frozen, before) and losses[-1] < losses[0]
    assert len(optimizer.layout) == sum(p.numel() for p in problem.model.parameters()) - 12


def test_lr_and_schedule_shorten_the_step_and_not_what_the_rule_sees():
    moved, ratios = [], []
    for lr, factor in ((1.0, 1.0), (0.5, 1.0), (1.0, 0.25)):
        torch.manual_seed(0)
        problem = curved_problem()
        optimizer = newton(problem, lr=lr, preconditioner="none")
        for group in optimizer.param_groups:
            group["lr"] *= factor
        start = vector(problem.model)
        advance(problem, optimizer)
        moved.append(vector(problem.model) - start)
        ratios.append(optimizer.report.ratio)
    torch.testing.assert_close(moved[1], 0.5 * moved[0], rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(moved[2], 0.25 * moved[0], rtol=1e-10, atol=1e-14)
    assert ratios[0] == ratios[1] == ratios[2]


def test_groups_of_different_pace_and_decay():
    problem = curved_problem()
    body, head = problem.model[1].parameters(), problem.model[3].parameters()
    groups = [{"params": list(body), "lr": 1e-2}, {"params": list(head), "lr": 4e-2}]
    base = torch.optim.AdamW(groups, weight_decay=0.5)
    optimizer = NewtonCG(base, **EXACT, regularisation="fixed", damping=0.1, backtracks=0)
    optimizer.attach(problem.model, problem.objective)
    base.param_groups[1]["lr"] = 2e-2  # half of what it was
    start, G = vector(problem.model), problem.dense()
    g = torch.cat([v.flatten() for v in problem.gradients().values()])
    optimizer.step()
    d = torch.linalg.solve(G + 0.1 * torch.eye(len(g)), -g)
    first = torch.arange(len(g)) < 16
    step = torch.where(first, d, 0.5 * d)
    expected = (start + step) * torch.where(first, 1 - 1e-2 * 0.5, 1 - 2e-2 * 0.5)
    torch.testing.assert_close(vector(problem.model), expected, rtol=1e-8, atol=1e-12)


def test_curvature_of_a_few_samples_judged_on_all():
    problem = curved_problem()
    seen = []
    whole = problem.objective
    problem.objective = lambda samples=None: seen.append(samples) or whole(samples)
    optimizer = newton(problem, samples=4, preconditioner="none", **EXACT, damping=1.0)
    start = vector(problem.model)
    g = torch.cat([v.flatten() for v in problem.gradients().values()])
    optimizer.step()
    few = Problem(problem.model, problem.x[:4], problem.y[:4])
    ParameterVector(problem.model.parameters()).assign(start)
    d = torch.linalg.solve(few.dense() + torch.eye(len(g)), -g)
    assert optimizer.report.share == 1
    assert 4 in seen and seen.count(None) >= 3
    torch.testing.assert_close(optimizer._previous, d, rtol=1e-8, atol=1e-12)


class Watched(Preconditioner):
    """Another one, and how far each iteration lowers the quadratic model."""

    def __init__(self, inner: Preconditioner):
        self.inner, self.falls = inner, []

    def prepare(self):
        self.inner.attach(self.model, self.layout, self.failed)

    def observe(self, loss, G):
        self.inner.observe(loss, G)

    def apply(self, r, damping):
        self.r = r
        return self.inner.apply(r, damping)

    def learn(self, d, Ad):
        if len(self.falls) < self.iterations:  # not a check of the residual
            self.falls.append(float((d @ self.r) ** 2 / (d @ Ad)))
        self.inner.learn(d, Ad)

    def finish(self):
        self.inner.finish()

    def needed(self, G, g, damping: float, share: float = 0.9, iterations: int = 60) -> int:
        """Iterations for that share of what so many come to."""
        self.iterations, self.falls = iterations, []
        system = NewtonSystem(G, g, self, Limits(1e-12, iterations, None))
        system.solve(damping, torch.zeros_like(g))
        falls = torch.tensor(self.falls).cumsum(0)
        return int((falls < share * falls[-1]).sum()) + 1


@pytest.fixture(scope="module")
def system():
    """Curvature and gradient of a small FNO after some steps, and what makes counters."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    problem = operator_problem()
    layout = ParameterVector(problem.model.parameters())
    advance(problem, newton(problem), 12)
    batch = BatchLoss(problem.objective, problem.model, layout)
    G = batch.curvature()

    def watch(inner: Preconditioner) -> Watched:
        watched = Watched(inner)
        watched.attach(problem.model, layout, print)
        for _ in range(5):
            watched.observe(batch, G)
        return watched

    yield G, G.gradient(), watch
    torch.set_default_dtype(torch.float32)


def test_kronecker_factors_save_iterations(system):
    """Of a small FNO, for 90 % of what the quadratic model promises, with the small lambda that
    training comes to. With a large one conjugate directions need few by themselves.
    """
    G, g, watch = system
    counts = {n: watch(PRECONDITIONERS[n]()).needed(G, g, 1e-6) for n in ("none", "jacobi", "kfac")}
    assert counts["kfac"] < 0.75 * counts["none"] and counts["kfac"] < counts["jacobi"]
    assert watch(Identity()).needed(G, g, 1.0) < 8


def test_what_is_learned_saves_iterations(system):
    """Solving one system again and again; it begins as its base."""
    G, g, watch = system
    learned = watch(LearnedScaling(lr=0.1))
    base = watch(learned.inner.base)
    counts = [learned.needed(G, g, 1e-6, iterations=20) for _ in range(12)]
    assert counts[0] == base.needed(G, g, 1e-6, iterations=20) and counts[-1] < counts[0]


def test_jacobi_is_the_diagonal():
    problem = curved_problem()
    optimizer = newton(problem, preconditioner=Jacobi(exponent=1.0, draws=2000))
    batch = BatchLoss(problem.objective, problem.model, optimizer.layout)
    optimizer.preconditioner.observe(batch, batch.curvature())
    diagonal = problem.dense().diagonal()
    found = optimizer.preconditioner.apply(torch.ones_like(diagonal), 0.1)
    torch.testing.assert_close(found, 1 / (diagonal + 0.1), rtol=0.2, atol=0)


def test_kronecker_factors_of_a_linear_layer_are_the_inverse():
    """There A (x) B is the matrix itself, but for the draws that measure its eigenvalues."""
    problem = linear_problem()
    optimizer = newton(problem, preconditioner=KroneckerFactored(draws=4000))
    batch = BatchLoss(problem.objective, problem.model, optimizer.layout)
    optimizer.preconditioner.observe(batch, batch.curvature())
    G = problem.dense()
    columns = [optimizer.preconditioner.apply(e, 0.01) for e in torch.eye(len(G))]
    product = torch.stack(columns) @ (G + 0.01 * torch.eye(len(G)))
    assert (torch.linalg.eigvals(product).real - 1).abs().max() < 0.2


def test_its_gradient_is_that_of_the_quadratic_model():
    """Against autograd through one iteration of the method, with a direction to be conjugate to."""
    torch.manual_seed(0)
    M, r = torch.randn(6, 6), torch.randn(6)
    A = M @ M.T + torch.eye(6)
    q = torch.randn(6)
    r = r - (q @ r) / (q @ q) * q  # what conjugate directions provide

    def decrease(d):
        d = d - (d @ A @ q) / (q @ A @ q) * q
        return d, -((d @ r) ** 2) / (d @ A @ d) / 2

    proposed = torch.randn(6, requires_grad=True)
    d, loss = decrease(proposed)
    (expected,) = torch.autograd.grad(loss, proposed)
    learned = LearnedScaling(Jacobi())
    learned.base.rotate = lambda v: v
    learned._asked, learned._slope = (r, torch.ones(6)), torch.zeros(6)
    learned.learn(d.detach(), A @ d.detach())
    torch.testing.assert_close(learned._slope, expected, rtol=1e-10, atol=1e-12)


def test_a_scaling_that_has_learned_nothing_good_does_no_harm():
    """With random weights the solve converges to the same d."""
    found = []
    for wild in (False, True):
        torch.manual_seed(0)
        problem = curved_problem()
        optimizer = newton(problem, **EXACT, preconditioner="learned", damping=0.1, backtracks=0)
        if wild:
            for p in optimizer.preconditioner.network.parameters():
                p.data.normal_(generator=torch.Generator().manual_seed(1))
        start = vector(problem.model)
        advance(problem, optimizer)
        assert optimizer.report.reason == "converged"
        found.append(vector(problem.model) - start)
    torch.testing.assert_close(*found, rtol=1e-8, atol=1e-12)


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
    "options",
    [
        {"preconditioner": "kfac"},
        {"preconditioner": "jacobi", "regularisation": "gradient_normalised", "damping": 10.0},
        {"preconditioner": "learned"},
    ],
    ids=["kfac", "jacobi", "learned"],
)
def test_training_goes_on_from_its_state(options):
    problem = operator_problem()
    optimizer = newton(problem, **options)
    advance(problem, optimizer, 3)
    weights = {k: v.clone() for k, v in problem.model.state_dict().items()}
    torch.save(optimizer.state_dict(), file := io.BytesIO())
    random = torch.get_rng_state()
    advance(problem, optimizer, 7)
    expected = vector(problem.model)

    problem.model.load_state_dict(weights)
    again = newton(problem, **options)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    torch.set_rng_state(random)
    advance(problem, again, 7)
    assert torch.equal(vector(problem.model), expected)
    assert again.steps == 10 and again.rule.state() == optimizer.rule.state()


def test_a_stopped_run_goes_on_bit_by_bit(train):  # noqa: F811
    """`python train.py curvature=newton_cg`, interrupted in the middle of an epoch."""
    torch.set_default_dtype(torch.float32)
    overrides = [*MODELS["fno"], "curvature=newton_cg", "curvature.max_iterations=5"]
    overrides += ["trainer.max_epochs=2"]
    whole = train("whole", *overrides)
    with pytest.raises(Interrupted) as stopped:
        train("stopped", *overrides, stop_at=STOP)
    continued = train("continued", *overrides, f"ckpt_path={stopped.value.checkpoint}")
    assert same_weights(continued, whole, "last.ckpt")


@pytest.mark.parametrize(
    "options",
    [
        {"accumulate_grad_batches": 2},
        {"gradient_clip_val": 0.1},
        {"precision": "bf16-mixed"},
        {"precision": "64-true"},
    ],
    ids=["accumulated", "clipped", "bf16", "double"],
)
def test_it_trains_under_lightning(pairs, options):  # noqa: F811
    torch.set_default_dtype(torch.float32)

    def curved(parameters):
        return NewtonCG(torch.optim.AdamW(parameters), damping=0.1, max_iterations=8)

    module = learner(pairs, optimizer=curved, schedule=Constant())
    trainer = Trainer(max_epochs=10, **(QUIET | options))
    trainer.fit(module, DataModule(pairs, batch_size=5))
    assert trainer.callback_metrics["val/relative_l2"] < 0.05
    (optimizer,) = trainer.optimizers
    assert optimizer.steps == trainer.global_step


def rank(number: int, world: int, file, out) -> None:
    dist.init_process_group("gloo", f"file://{file}", rank=number, world_size=world)
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    problem = operator_problem()
    half = slice(3 * number, 3 * number + 3)
    own = Problem(problem.model, problem.x[half], problem.y[half], problem.loss)
    optimizer = newton(own, **EXACT, **SHARED)
    for _ in range(2):
        own.gradients()
        for p in own.model.parameters():  # as DistributedDataParallel does
            dist.all_reduce(p.grad)
            p.grad /= world
        optimizer.step()
    torch.save((vector(own.model), tuple(optimizer.report[2:])), f"{out}-{number}")


SHARED = {"preconditioner": "jacobi", "damping": 0.1}


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    """With half a batch each, steps and losses are those of the batch."""
    multiprocessing.spawn(rank, (2, tmp_path / "meeting", str(tmp_path / "out")), nprocs=2)
    problem = operator_problem()
    optimizer = newton(problem, **EXACT, **SHARED)
    advance(problem, optimizer, 2)
    one, other = (torch.load(f"{tmp_path}/out-{n}", weights_only=True) for n in range(2))
    assert torch.equal(one[0], other[0]) and one[1] == other[1]
    torch.testing.assert_close(one[0], vector(problem.model), rtol=1e-7, atol=1e-9)
    assert one[1] == pytest.approx(optimizer.report[2:], rel=1e-6)


def test_a_state_without_curvature_is_refused():
    problem = curved_problem()
    with pytest.raises(ValueError, match="written with curvature=none"):
        newton(problem).load_state_dict(adamw(problem.model).state_dict())


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
