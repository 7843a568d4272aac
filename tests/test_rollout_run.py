"""Whole runs over time: training by roll-outs, resuming, the test trajectories, the saved step."""

import csv
import json
import math
import signal

import numpy as np
import pytest
import torch

from sciml.evaluation.rollout_errors import load_rollouts
from sciml.models import Surrogate
from sciml.runtime.checkpoint_io import load_checkpoint
from sciml.runtime.interruption import Interrupted
from sciml.tasks import Rollout
from tests.helpers import equal, finish, weights

COUNT, FRAMES, POINTS = 20, 9, 16


@pytest.fixture(scope="module")
def moving(tmp_path_factory) -> list[str]:
    """Overrides that choose waves which move and decay, on a ring."""
    x = 2 * math.pi * np.arange(POINTS) / POINTS
    noise = np.random.default_rng(0)
    a, phase = noise.normal(size=(2, COUNT, 1, 2, 1))
    k, time = np.arange(1, 3)[:, None], 0.2 * np.arange(FRAMES)[:, None, None]
    u = (a * np.exp(-0.3 * time) * np.sin(k * (x - time) + phase)).sum(axis=2)
    path = tmp_path_factory.mktemp("moving") / "u.npy"
    np.save(path, u)
    grid = ("data.ndim=1", "data.boundary=periodic", "data.points=left")
    return ["data=trajectories", f"path={path}", "dt=0.2", *grid, "task=rollout"]


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.window.horizon=4", "task.bundle=2"],
        ["data.window.horizon=3", "task/unroll=pushforward", "task.increments=true"],
        ["data.window.horizon=3", "data.window.history=2", "task.unroll.last=1", "task.noise=0.01"],
        ["data.window.horizon=2", "task/unroll=teacher_forcing", "data.window.stride=[1,2]"],
        ["data.window.horizon=3", "task=supervised"],
    ],
    ids=["bundle", "pushforward", "last", "strides", "direct"],
)
def test_every_way_to_unroll_runs_to_its_figures(moving, tmp_path, no_report, overrides):
    figures = finish(tmp_path / "run", *moving, *overrides, "trainer.max_epochs=1")
    history = 2 if "data.window.history=2" in overrides else 1
    assert figures["test/rollout/frames"] == FRAMES - history
    assert figures["test/rollout/trajectories"] == COUNT / 10
    assert figures[f"test/rollout/relative_l2@{FRAMES - history}"] > 0
    found = load_rollouts(tmp_path / "run" / "rollouts.npz")["16"]
    assert found.time[0] == pytest.approx(0.2 * np.arange(1, FRAMES - history + 1))


@pytest.mark.slow
def test_the_step_is_learnt_and_saved(moving, tmp_path):
    """Well below the error of no change; the saved model is one step, of one frame."""
    figures = finish(
        tmp_path / "run",
        *moving,
        *("data.window.horizon=3", "task.increments=true", "trainer.max_epochs=15"),
        *("optimizer.lr=0.01", "model.width=12", "model.depth=2"),
    )
    last = f"@{FRAMES - 1}"
    error, still = (figures[f"test/rollout/{key}{last}"] for key in ("relative_l2", "persistence"))
    assert error < 0.2 * still
    step = Surrogate.load(tmp_path / "run" / "model")
    assert step.metadata.out_channels == 1
    assert step.metadata.target_fields[0].name == "change of u"
    u = torch.from_numpy(np.load(moving[1].partition("=")[2])).float()
    with torch.no_grad():
        missed = (u[:, :1] + step(u[:, :1]) - u[:, 1:2]).norm() / u[:, 1:2].norm()
    assert missed < 0.1
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Roll-outs of test trajectories" in page and "mean over 2 roll-outs" in page
    assert json.loads((tmp_path / "run" / "metrics.json").read_text()) == figures
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    again = finish(
        tmp_path / "again",
        *moving,
        *("data.window.horizon=3", "task.increments=true", "model.width=12", "model.depth=2"),
        *("fit=false", f"ckpt_path={best}"),
    )
    assert {k: v for k, v in again.items() if k.startswith("test")} == {
        k: v for k, v in figures.items() if k.startswith("test")
    }


@pytest.mark.parametrize(
    "overrides, reason",
    [
        (["task._target_=sciml.tasks.Cosine"], "sciml.tasks.Cosine is no task"),
        (["task.bundle=two"], "bundle=two must be a whole number"),
        (["task.bundle=2"], "task.bundle=2 must divide"),
    ],
)
def test_settings_that_do_not_fit_are_refused_before_anything_is_read(
    moving, tmp_path, overrides, reason
):
    with pytest.raises(ValueError, match=reason):
        finish(tmp_path / "run", *moving, "data.window.horizon=3", *overrides)


def losses(folder) -> dict[int, str]:
    with (folder / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("train/loss_step")]
    return {int(row["step"]): row["train/loss_step"] for row in rows}


def test_a_run_that_draws_goes_on_bit_by_bit(moving, tmp_path, no_report, monkeypatch):
    """Noise and the lengths of free runs are those of the run that was not stopped."""
    monkeypatch.setattr("sciml.runtime.training.LOG_EVERY", 1)
    settings = [*moving, "data.window.horizon=4", "task/unroll=pushforward", "task.noise=0.05"]
    finish(tmp_path / "whole", *settings)
    stop = 15  # of 10 steps per epoch

    def step(task, batch, index, original=Rollout.training_step):
        if task.global_step == stop:
            signal.raise_signal(signal.SIGTERM)
        return original(task, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(Rollout, "training_step", step)
        with pytest.raises(Interrupted):
            finish(tmp_path / "part", *settings)
    last = tmp_path / "part" / "checkpoints" / "last.ckpt"
    reached = load_checkpoint(last)["global_step"]
    assert stop <= reached < 20
    finish(tmp_path / "rest", *settings, f"ckpt_path={last}")
    whole, rest = losses(tmp_path / "whole"), losses(tmp_path / "rest")
    assert len(rest) == len(whole) - reached > 0
    assert all(whole[number] == loss for number, loss in rest.items())
    assert equal(weights(tmp_path / "whole", "last"), weights(tmp_path / "rest", "last"))
    with pytest.raises(ValueError, match="task.noise was 0.05, is 0.1"):
        finish(tmp_path / "other", *settings, "task.noise=0.1", f"ckpt_path={last}")


def test_other_grids_are_unrolled_too(tmp_path, no_report):
    """The same trajectories on twice as many points; the new modes count by themselves."""
    figures = finish(
        tmp_path / "run",
        *("data=burgers", f"data_dir={tmp_path}", "data.resolution=32", "data.num_workers=0"),
        *("data.counts={train: 4, valid: 1, test: 2}", "data.pde.num_steps=4", "resolution=64"),
        *("data.pde.stepper.dt=0.01", "data.pde.stepper.substeps=8", "++data.pde.tail=null"),
        *("task=rollout", "data.window.horizon=2", "trainer.max_epochs=1"),
    )
    for prefix in ("test", "test@64"):
        assert figures[f"{prefix}/rollout/frames"] == 4
    assert figures["test@64/rollout/persistence@4"] == pytest.approx(
        figures["test/rollout/persistence@4"], rel=0.01
    )
    assert "test/relative_l2_beyond" not in figures
    total = figures["test@64/relative_l2"]
    assert figures["test@64/relative_l2_resolved"] <= total
    assert 0 < figures["test@64/truth_beyond"] < 0.2
    assert set(load_rollouts(tmp_path / "run" / "rollouts.npz")) == {"32", "64"}
