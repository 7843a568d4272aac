"""Optimizers that evaluate a batch several times in a step: what is logged, what is refused."""

import csv

import pytest

from sciml.tasks import Supervised
from tests.helpers import finish

LBFGS = ("optimizer=lbfgs", "optimizer.max_iter=6", "task/schedule=constant")


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("sciml.run.write_report", lambda folder: folder)


def test_the_curve_has_the_loss_before_each_step(arrays, tmp_path, monkeypatch):
    """Not those of a line search, which may be of weights that no step leads to."""
    seen: dict[int, list[float]] = {}
    loss = Supervised.training_loss

    def watched(task, batch):
        value = loss(task, batch)
        seen.setdefault(task.global_step, []).append(float(value))
        return value

    monkeypatch.setattr(Supervised, "training_loss", watched)
    finish(tmp_path / "run", *arrays, *LBFGS, "trainer.max_epochs=8", "optimizer.lr=8")
    assert max(map(len, seen.values())) > 2
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    steps = {
        int(row["step"]): float(row["train/loss_step"]) for row in rows if row["train/loss_step"]
    }
    assert steps and steps == pytest.approx({step: seen[step][0] for step in steps}, rel=1e-6)
    assert any(abs(values[-1] / values[0] - 1) > 1e-3 for values in seen.values())  # the control
    epochs = [float(row["train/loss_epoch"]) for row in rows if row["train/loss_epoch"]]
    each = len(seen) // len(epochs)
    first = [values[0] for values in seen.values()]
    means = [sum(first[i : i + each]) / each for i in range(0, len(first), each)]
    assert epochs == pytest.approx(means, rel=1e-5)
    norms = [float(row["gradient/l1"]) for row in rows if row["gradient/l1"]]
    assert len(norms) == len(steps)


def test_parts_of_a_batch_are_refused(arrays, tmp_path):
    """Lightning clears the gradient before the first part alone: all evaluations would add up."""
    with pytest.raises(
        ValueError, match="accumulate_grad_batches=2: LBFGS evaluates .* batch_size"
    ):
        finish(tmp_path / "run", *arrays, *LBFGS, "trainer.accumulate_grad_batches=2")
