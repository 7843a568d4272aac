"""Gauss-Newton steps in training: randomness, groups, schedules, continued runs, processes."""

import io

import pytest
import torch
from lightning import Trainer
from torch import distributed as dist
from torch import multiprocessing, nn

from datasets import DataModule
from sciml.curvature.batch_loss import BatchLoss
from sciml.curvature.newton_cg import NewtonCG
from sciml.curvature.parameter_vector import ParameterVector
from sciml.runtime.interruption import Interrupted
from sciml.tasks import Constant
from tests.gauss_newton import Problem
from tests.newton import (
    EXACT,
    adamw,
    advance,
    curved_problem,
    newton,
    operator_problem,
    vector,
)
from tests.test_resume import MODELS, STOP, same_weights, train  # noqa: F401
from tests.test_tasks import QUIET, learner, pairs  # noqa: F401

pytestmark = pytest.mark.usefixtures("double")


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
