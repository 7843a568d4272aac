"""What preconditioners of conjugate directions are, and iterations counted."""

import math

import pytest
import torch
from torch import nn

from sciml.curvature.batch_loss import BatchLoss
from sciml.curvature.kronecker_preconditioner import KroneckerFactored
from sciml.curvature.learned_scaling import LearnedScaling
from sciml.curvature.newton_cg import PRECONDITIONERS
from sciml.curvature.newton_system import Limits, NewtonSystem
from sciml.curvature.parameter_vector import ParameterVector
from sciml.curvature.preconditioner import Identity, Jacobi, Preconditioner
from tests.newton import (
    EXACT,
    advance,
    curved_problem,
    linear_problem,
    newton,
    operator_problem,
    vector,
)

pytestmark = pytest.mark.usefixtures("double")


class Watched(Preconditioner):
    """Another one, and how far each iteration lowers the quadratic model."""

    def __init__(self, inner: Preconditioner):
        self.inner, self.falls = inner, []

    def prepare(self):
        self.inner.attach(self.model, self.layout, self.failed)

    def renew(self, loss):
        self.inner.renew(loss)

    def observe(self, G):
        self.inner.observe(G)

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
            watched.renew(batch)
            watched.observe(G)
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
    optimizer.preconditioner.renew(batch)
    optimizer.preconditioner.observe(batch.curvature())
    diagonal = problem.dense().diagonal()
    found = optimizer.preconditioner.apply(torch.ones_like(diagonal), 0.1)
    torch.testing.assert_close(found, 1 / (diagonal + 0.1), rtol=0.2, atol=0)


def test_kronecker_factors_of_a_linear_layer_are_the_inverse():
    """There A (x) B is the matrix itself, but for the draws that measure its eigenvalues."""
    problem = linear_problem()
    optimizer = newton(problem, preconditioner=KroneckerFactored(draws=4000))
    batch = BatchLoss(problem.objective, problem.model, optimizer.layout)
    optimizer.preconditioner.renew(batch)
    optimizer.preconditioner.observe(batch.curvature())
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


def test_factors_without_eigenvectors_stay_and_are_named(monkeypatch):
    problem = curved_problem()
    optimizer = newton(problem)
    advance(problem, optimizer)
    (name, basis), *_ = optimizer.preconditioner.bases.items()
    before = [b.clone() for b in basis.bases]

    def fail(matrix):
        raise torch.linalg.LinAlgError("no convergence")

    monkeypatch.setattr(torch.linalg, "eigh", fail)
    optimizer.preconditioner.steps = 0  # to be renewed
    with pytest.warns(UserWarning, match="its eigenvectors are not found; those of before stay"):
        advance(problem, optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before, basis.bases, strict=True))
    assert optimizer.failures[name] == 1 and optimizer.report.share > 0


class Unknown(nn.Module):
    """Most of its weights belong to no layer that is known, and a known one is never called."""

    def __init__(self):
        super().__init__()
        self.map = nn.Parameter(torch.randn(30, 2))
        self.spare, self.last = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        h = torch.tanh(x.flatten(1).repeat(1, 10) @ self.map)
        return (self.last(h) + h @ self.spare.weight)[..., None]


def test_what_kronecker_factors_do_not_cover_is_named():
    problem = curved_problem(Unknown())
    with pytest.warns(UserWarning, match="less than half, expect little"):
        optimizer = newton(problem, preconditioner="kfac")
    with pytest.warns(UserWarning, match="spare: it is never called as a module"):
        losses = advance(problem, optimizer, 5)
    assert list(optimizer.preconditioner.layers) == ["last"] and losses[-1] < losses[0]


def test_a_draw_that_is_not_finite_is_left_out():
    problem = curved_problem()
    optimizer = newton(problem, preconditioner="jacobi")
    batch = BatchLoss(problem.objective, problem.model, optimizer.layout)
    G = batch.curvature()
    optimizer.preconditioner.observe(G)
    before = optimizer.preconditioner.diagonal.clone()
    G.weights = [w * math.nan for w in G.weights]
    with pytest.warns(UserWarning, match="a draw is not finite; the diagonal of before stays"):
        optimizer.preconditioner.observe(G)
    assert torch.equal(optimizer.preconditioner.diagonal, before)
