"""Straight and refined learning-rate schedules, and the gradients that the latter are made of."""

import csv

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import nn

from datasets import DataModule
from sciml.runtime.gradient_norm import GradientNorm
from sciml.tasks import Linear, RefinedSchedule
from sciml.tasks.refined_schedule import NORM, recorded, refined
from tests.test_tasks import QUIET, learner, pairs, rates  # noqa: F401


def write(folder, norms: dict[int, float], name: str = "metrics.csv") -> None:
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, ["step", "epoch", NORM, "lr"])
        writer.writeheader()
        for step, norm in norms.items():
            writer.writerow({"step": step, "epoch": 0, "lr": 0.1})
            writer.writerow({"step": step, "epoch": 0, NORM: norm})


def test_linear_is_straight_up_and_down():
    found = np.array(rates(Linear(warmup=0.2), 100))
    assert found.max() == pytest.approx(0.4, rel=0.02)
    assert found[0] == pytest.approx(0.4 / 21) and found[-1] == pytest.approx(0.4 / 80)
    assert np.diff(found[:19]) == pytest.approx(np.full(18, 0.4 / 21))
    assert np.diff(found[21:]) == pytest.approx(np.full(78, -0.4 / 80))
    assert rates(Linear(warmup=0.0), 10) == pytest.approx([0.4 * (1 - t / 10) for t in range(10)])


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_linear_refuses_a_warmup_outside_the_run(warmup):
    with pytest.raises(ValueError, match=f"warmup={warmup} must lie between 0 and 1"):
        Linear(warmup=warmup)


def test_constant_gradients_give_the_straight_line():
    found = refined(np.full(40, 3.7), 100)
    t = np.arange(100)
    assert found == pytest.approx((100 - t - 0.5) / 99.5, rel=1e-12)


@pytest.mark.parametrize("power", [1.0, -0.5])
def test_the_schedule_is_the_formula(power):
    """Of norms that change as a power of time, against the integral w(t) int_t^1 w."""
    n, steps = 2000, 1000
    s, t = (np.arange(n) + 0.5) / n, (np.arange(steps) + 0.5) / steps
    found = refined((1 + s) ** -power, steps, window=0.002)
    exact = (1 + t) ** power * (2 ** (power + 1) - (1 + t) ** (power + 1)) / (power + 1)
    assert found == pytest.approx(exact / exact.max(), abs=2e-3)


def test_large_gradients_at_the_start_are_a_warm_up():
    s = np.linspace(0, 1, 200)
    found = refined(1 + 20 * np.exp(-20 * s), 500)
    assert found[0] < 0.3 and 0.05 < found.argmax() / 500 < 0.5 and found[-1] < 0.01


def test_spikes_do_not_count():
    norms = np.ones(100)
    norms[[20, 55, 56]] = 1e4
    assert refined(norms, 300) == pytest.approx(refined(np.ones(100), 300))


@pytest.mark.parametrize("place", [0, 8, 49])
def test_one_gradient_of_a_short_run_does_not_rule(place):
    """Of fifty, the least that is taken: small at the start, large or small later."""
    for size in (0.1, 10.0) if place else (0.1,):
        norms = np.ones(50)
        norms[place] = size
        found, line = refined(norms, 200, warmup=0.05), refined(np.ones(50), 200, warmup=0.05)
        assert found == pytest.approx(line, rel=0.1, abs=0.02)


def test_norms_are_read_from_a_run_and_the_one_before_it(tmp_path):
    write(tmp_path, {step: 1.0 for step in range(9, 309, 10)}, "earlier.csv")
    write(tmp_path, {step: 2.0 for step in range(299, 509, 10)})
    assert recorded(tmp_path).tolist() == [1.0] * 29 + [2.0] * 21  # 299 was repeated
    found = rates(RefinedSchedule(str(tmp_path)), 50)
    assert max(found) == pytest.approx(0.4)
    assert found == pytest.approx(list(0.4 * refined(recorded(tmp_path), 50, warmup=0.05)))


def test_small_gradients_at_the_start_do_not_shrink_all_other_rates():
    """With the warm-up: the straight line of constant norms. Without it: a peak of a few steps."""
    norms = np.where(np.arange(100) < 2, 0.1, 1.0)
    found, plain = refined(norms, 400, warmup=0.05), refined(norms, 400)
    line = refined(np.ones(100), 400)
    assert found[20:] == pytest.approx(line[20:] / line[20], rel=0.03)
    assert found[:20] == pytest.approx((np.arange(20) + 1) / 21)
    assert plain[40:].max() < 0.11 and plain.argmax() == 0


@pytest.mark.parametrize(
    "norms",
    [
        {},
        {9: 1.0},
        {10 * k: 1.0 for k in range(49)},
        {10 * k: 0.0 for k in range(20)},
        {10 * k: np.nan for k in range(20)},
    ],
)
def test_a_run_without_gradients_is_refused(tmp_path, norms):
    write(tmp_path, norms)
    with pytest.raises(ValueError, match="task.schedule.of=.* at least 500 steps.*schedule=linear"):
        rates(RefinedSchedule(str(tmp_path)), 50)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        rates(RefinedSchedule(str(tmp_path / "none")), 50)


@pytest.mark.parametrize("warmup", [-0.1, 1.0])
def test_a_warmup_longer_than_the_run_is_refused(tmp_path, warmup):
    with pytest.raises(ValueError, match=f"warmup={warmup} must lie between 0 and 1"):
        RefinedSchedule(str(tmp_path), warmup=warmup)


@pytest.mark.parametrize("window", [0.0, 1.0])
def test_a_window_outside_the_run_is_refused(tmp_path, window):
    with pytest.raises(ValueError, match=f"window={window} must lie between 0 and 1"):
        RefinedSchedule(str(tmp_path), window=window)


def test_a_continued_run_follows_the_schedule_it_began_with(tmp_path):
    """Even if the other run has gone on meanwhile."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    write(tmp_path, {10 * k: 1.0 for k in range(50)})
    before = RefinedSchedule(str(tmp_path))(optimizer, 30)
    write(tmp_path, {10 * k: 1.0 + k**2 for k in range(50)})
    after = RefinedSchedule(str(tmp_path))(optimizer, 30)
    after.load_state_dict(before.state_dict())
    for scheduler in (before, after):
        scheduler.step()
    assert after.get_last_lr() == before.get_last_lr()
    assert after.factors == before.factors


def test_a_continued_run_must_have_the_same_length(pairs, tmp_path):  # noqa: F811
    trainer = Trainer(max_epochs=2, **QUIET)
    module = learner(pairs, schedule=Linear())
    trainer.fit(module, DataModule(pairs, batch_size=5))
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    again = Trainer(max_epochs=3, **QUIET)
    with pytest.raises(ValueError, match="spans 8 steps, this run 12"):
        again.fit(
            learner(pairs, schedule=Linear()),
            DataModule(pairs, batch_size=5),
            ckpt_path=tmp_path / "last.ckpt",
            weights_only=False,
        )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_gradients_are_logged_before_they_are_clipped(pairs, tmp_path, accumulate):  # noqa: F811
    """Against those that autograd gives for the same weights, in the steps that are logged."""
    seen = []

    class Spy(GradientNorm):
        def on_before_optimizer_step(self, trainer, task, optimizer):
            grads = [p.grad for p in task.parameters() if p.grad is not None]
            seen.append((trainer.global_step, float(sum(g.abs().sum() for g in grads))))
            super().on_before_optimizer_step(trainer, task, optimizer)

    logger = CSVLogger(str(tmp_path), name="", version="")
    trainer = Trainer(
        max_epochs=4,
        **QUIET
        | {
            "logger": logger,
            "callbacks": [Spy()],
            "log_every_n_steps": 2,
            "gradient_clip_val": 1e-3,
            "accumulate_grad_batches": accumulate,
        },
    )
    trainer.fit(learner(pairs), DataModule(pairs, batch_size=5))
    with (tmp_path / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get(NORM)]
    found = {int(row["step"]): float(row[NORM]) for row in rows}
    expected = {step: norm for step, norm in seen if step % 2 == 1}
    assert found == pytest.approx(expected, rel=1e-5) and len(found) == 8 // accumulate


def test_complex_gradients_count_by_their_parts(tmp_path):
    logged = {}

    class Task:
        def parameters(self):
            p = nn.Parameter(torch.zeros(2, dtype=torch.complex64))
            p.grad = torch.tensor([3 + 4j, -1j])
            return [p]

        def log(self, name, value, **options):
            logged[name] = float(value)

    class Steps:
        global_step, log_every_n_steps = 0, 1

    GradientNorm().on_before_optimizer_step(Steps(), Task(), None)
    assert logged == {NORM: 8.0}
