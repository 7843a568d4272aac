"""A whole run in this process: its files, what chooses the weights, what repeats, what stops it."""

import csv
import json
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Callback

from datasets import ArraySource
from datasets.build import instantiate
from sciml import run as program
from sciml.evaluation.result import Evaluation
from sciml.run import run
from sciml.runtime.allocator import keep_freed_memory
from sciml.runtime.checkpoint_io import load_checkpoint
from sciml.runtime.finite_guard import NonFiniteError
from sciml.runtime.peak_memory import PeakMemory
from sciml.runtime.run_folder import RunFolder
from sciml.tasks import Supervised
from tests.helpers import TINY, compose, equal, finish, save_pairs, smooth_pairs, weights

FILES = (
    *("config.yaml", "overrides.json", "run.json", "metrics.json", "metrics.csv"),
    *("evaluation.npz", "report.html", "tensorboard/hparams.yaml"),
    *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
)


def test_the_folder_holds_what_was_promised(complete):
    path, figures = complete
    assert [name for name in FILES if not (path / name).is_file()] == []
    assert list((path / "tensorboard").glob("events.*"))
    assert list(path.rglob("*.tmp")) == []
    written = json.loads((path / "metrics.json").read_text())
    assert written == figures
    assert written["status"] == "completed"
    for key in (
        "test/relative_l2",
        "test/relative_l2/target",
        "wall_s",
        "peak_rss_mb",
        "parameters",
    ):
        assert written[key] > 0
    assert written["test/relative_l2"] == written["test/relative_l2/target"]
    assert written["test/samples"] == 4
    assert written["best_epoch"] in (1, 2)
    stages = sum(written[f"{stage}_s"] for stage in ("data", "train", "evaluate"))
    assert written["wall_s"] == pytest.approx(stages)


def test_the_folder_says_where_the_figures_come_from(complete, parts):
    path, figures = complete
    about = json.loads((path / "run.json").read_text())
    assert about["seed"] == 0
    assert about["data"]["splits"] == {name: len(rows) for name, rows in parts.items()}
    assert len(about["data"]["provenance"]["input sha256"]) == 64
    assert about["model"] == {"name": "FNO", "parameters": figures["parameters"]}
    assert about["versions"]["torch"] == torch.__version__
    assert about["machine"]["threads"] == 1
    assert Path(about["checkpoint"]) == path / "checkpoints" / "best.ckpt"
    config = (path / "config.yaml").read_text()
    assert "width: 6" in config
    assert "${" not in config
    assert json.loads((path / "overrides.json").read_text())[0] == "data=arrays"


def test_the_log_has_every_epoch(complete):
    text = (complete[0] / "metrics.csv").read_text()
    header = text.splitlines()[0].split(",")
    assert {"epoch", "step", "train/loss_epoch", "val/loss", "val/relative_l2"} <= set(header)
    assert len(text.splitlines()) > 4


def test_the_report_names_the_figure(complete):
    path, figures = complete
    page = (path / "report.html").read_text()
    assert f"{100 * figures['test/relative_l2']:.1f}"[:3] in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_the_evaluation_holds_the_error_of_every_sample(complete):
    path, figures = complete
    result = Evaluation.load(path / "evaluation.npz").results["12x12"]
    assert result.errors.shape == (4, 1)
    assert result.errors.mean() == pytest.approx(figures["test/relative_l2"], rel=1e-12)


def test_the_figure_is_that_of_the_best_weights_on_the_test_rows(complete, arrays, parts):
    """Once more by hand: load the weights, predict, divide norms."""
    path, figures = complete
    config = compose([*TINY, *arrays])
    task = program.build_task(config, instantiate(config.data))
    task.load_state_dict(weights(path))
    a, u = (np.load(line.partition("=")[2])[parts["test"]] for line in arrays[1:])
    with torch.no_grad():
        v = task(torch.from_numpy(a).float()[:, None])[:, 0].double().numpy()
    errors = np.linalg.norm((v - u).reshape(4, -1), axis=1) / np.linalg.norm(
        u.reshape(4, -1), axis=1
    )
    assert figures["test/relative_l2"] == pytest.approx(errors.mean(), rel=1e-5)


def test_evaluation_alone_repeats_the_figures_to_the_last_digit(
    complete, arrays, tmp_path, no_report
):
    path, figures = complete
    best = path / "checkpoints" / "best.ckpt"
    again = finish(tmp_path / "again", *arrays, "fit=false", f"ckpt_path={best}")
    errors = {key: value for key, value in figures.items() if key.startswith("test")}
    assert {key: again[key] for key in errors} == errors
    assert "best_epoch" not in again
    assert not (tmp_path / "again" / "checkpoints").exists()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(
    arrays, tmp_path, no_report, complete
):
    torch.rand(5)  # the state before the run does not matter
    figures = finish(tmp_path / "same", *arrays)
    other = finish(tmp_path / "other", *arrays, "seed=1")
    for name in ("best", "last"):
        assert equal(weights(tmp_path / "same", name), weights(complete[0], name))
        assert not equal(weights(tmp_path / "other", name), weights(complete[0], name))
    assert figures["test/relative_l2"] == complete[1]["test/relative_l2"]
    assert other["test/relative_l2"] != complete[1]["test/relative_l2"]


def test_test_data_choose_nothing(arrays, parts, tmp_path, no_report, complete):
    """Noise in the test rows changes the figure, and no weight."""
    a, u = smooth_pairs()
    noise = np.random.default_rng(0)
    for array in (a, u):
        array[parts["test"]] = noise.normal(size=array[parts["test"]].shape)
    poisoned = save_pairs(tmp_path / "poisoned", a, u)
    figures = finish(tmp_path / "run", *poisoned)
    for name in ("best", "last"):
        assert equal(weights(tmp_path / "run", name), weights(complete[0], name))
    assert figures["best_epoch"] == complete[1]["best_epoch"]
    assert figures["test/relative_l2"] != complete[1]["test/relative_l2"]


def test_validation_data_choose_the_weights(parts, tmp_path, no_report, complete):
    """The control: other validation rows leave the last weights and may move the best."""
    a, u = smooth_pairs()
    u[parts["valid"]] *= -1
    overrides = save_pairs(tmp_path / "data", a, u)
    finish(tmp_path / "run", *overrides)
    assert equal(weights(tmp_path / "run", "last"), weights(complete[0], "last"))
    mine, theirs = (
        load_checkpoint(path / "checkpoints" / "best.ckpt")["callbacks"]["Checkpoints"]["score"]
        for path in (tmp_path / "run", complete[0])
    )
    assert mine > 1.5 * theirs


def test_the_best_weights_are_those_with_the_lowest_validation_error(arrays, tmp_path, no_report):
    """A rate that grows until training diverges: the best epoch is not the last."""
    figures = finish(tmp_path / "run", *arrays, "optimizer.lr=0.3", "trainer.max_epochs=6")
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/relative_l2"]]
    errors = [float(row["val/relative_l2"]) for row in rows]
    assert len(errors) == 6
    assert figures["best_epoch"] == 1 + int(np.argmin(errors))
    saved = load_checkpoint(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert saved["epoch"] == int(np.argmin(errors))


def test_the_test_rows_are_read_after_training_and_the_statistics_from_training_rows(
    arrays, parts, tmp_path, no_report, monkeypatch
):
    """What a data set reads to look for NaN when it is opened does not count."""
    stages: dict[str, set[int]] = {"open": set(), "task": set(), "fit": set(), "evaluate": set()}
    now = ["open"]
    read = ArraySource.__getitems__

    def spy(source, indices):
        stages[now[0]] |= set(indices)
        return read(source, indices)

    def entering(stage: str, function):
        def call(*arguments, **settings):
            now[0] = stage
            return function(*arguments, **settings)

        return call

    monkeypatch.setattr(ArraySource, "__getitems__", spy)
    for name, stage in (("build_task", "task"), ("fit", "fit"), ("_evaluate", "evaluate")):
        monkeypatch.setattr(program, name, entering(stage, getattr(program, name)))
    finish(tmp_path / "run", *arrays)
    assert stages["task"] == set(parts["train"])
    assert stages["fit"] == {*parts["train"], *parts["valid"]}
    assert stages["evaluate"] == set(parts["test"])


def test_other_validation_and_test_rows_leave_the_statistics(parts, tmp_path, arrays):
    def statistics(overrides):
        data = program.DataModule(instantiate(compose(overrides).data), batch_size=8)
        return [{k: v.clone() for k, v in n.state_dict().items()} for n in data.normalizers()]

    a, u = smooth_pairs()
    for array in (a, u):
        array[parts["valid"]] += 100
        array[parts["test"]] *= 50
    changed = statistics(save_pairs(tmp_path / "changed", a, u))
    original = statistics(arrays)
    assert all(equal(x, y) for x, y in zip(changed, original, strict=True))
    a[parts["train"][0]] += 1  # the control
    moved = statistics(save_pairs(tmp_path / "moved", a, u))
    assert not equal(moved[0], original[0])
    assert equal(moved[1], original[1])


def test_further_grids_that_cannot_be_had_are_refused_before_training(
    arrays, tmp_path, monkeypatch
):
    monkeypatch.setattr(program, "fit", lambda *_: pytest.fail("training has begun"))
    for resolution in ("24", "[12,24]", "[[12,24]]"):
        with pytest.raises(
            ValueError, match=r"resolution=.*24.*: the files hold the grid \(12, 12\) alone"
        ):
            finish(tmp_path / resolution, *arrays, f"resolution={resolution}")


def test_the_own_grid_as_a_further_one_is_evaluated_once(arrays, tmp_path, no_report):
    figures = finish(tmp_path / "run", *arrays, "resolution=[12]", "trainer.max_epochs=1")
    assert not [key for key in figures if key.startswith("test@")]


def test_evaluation_on_the_asked_grid_alone(complete, arrays, tmp_path, no_report):
    best = complete[0] / "checkpoints" / "best.ckpt"
    figures = finish(tmp_path / "run", *arrays, "fit=false", f"ckpt_path={best}", "resolution=12")
    assert figures["test@12x12/relative_l2"] == complete[1]["test/relative_l2"]
    assert "test/relative_l2" not in figures


@pytest.mark.parametrize("resolution", ["12.5", "[12,2]", "abc", "[[12,0]]", "true"])
def test_a_resolution_that_is_no_number_of_points_is_refused(arrays, tmp_path, resolution):
    with pytest.raises(ValueError, match=r"resolution=.*: give whole numbers of points"):
        finish(tmp_path / "run", *arrays, f"resolution={resolution}")


def test_a_grid_without_an_inner_point_is_refused(tmp_path):
    overrides = save_pairs(tmp_path / "data", *smooth_pairs(20, (12, 2)))
    with pytest.raises(ValueError, match="the grid 12x2 is too small: errors need 3 points"):
        finish(tmp_path / "run", *overrides, "model.modes=1")


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train_and_evaluate(arrays, tmp_path, no_report, complete, precision):
    figures = finish(tmp_path / "run", *arrays, f"trainer.precision={precision}")
    assert figures["test/relative_l2"] == pytest.approx(complete[1]["test/relative_l2"], rel=0.05)
    double = precision == "64-true"
    kind = torch.float64 if double else torch.float32
    assert weights(tmp_path / "run")["model.lifting.0.weight"].dtype == kind


def test_evaluation_without_a_checkpoint_is_refused(arrays, tmp_path):
    with pytest.raises(ValueError, match="fit=false evaluates a trained model: give its ckpt_path"):
        finish(tmp_path / "run", *arrays, "fit=false")


DIVERGES = ("optimizer.lr=1e30", "task.schedule.warmup=0.99", "curvature=none")


class Watched:
    """Remembers the task of a run, whose weights are looked at when it has failed."""

    def __init__(self, monkeypatch):
        make = program.build_task

        def remember(*arguments, **settings):
            self.task = make(*arguments, **settings)
            return self.task

        monkeypatch.setattr(program, "build_task", remember)

    def finite(self) -> bool:
        return all(p.isfinite().all() for p in self.task.parameters())


def test_a_run_stops_before_its_weights_are_nan(arrays, tmp_path, no_report, monkeypatch):
    watched = Watched(monkeypatch)
    with pytest.raises(
        NonFiniteError, match=r"not finite at step \d+ \(epoch 1\): .* Lower optimizer.lr"
    ):
        finish(tmp_path / "run", *arrays, *DIVERGES)
    assert watched.finite()


def test_a_second_order_run_stops_where_no_step_is_finite(arrays, tmp_path, no_report, monkeypatch):
    """Its steps stay out of the weights: it would go on to the end with those of the beginning."""
    watched = Watched(monkeypatch)
    with pytest.raises(NonFiniteError, match=r"the step of no tensor is finite.* optimizer.lr"):
        finish(tmp_path / "run", *arrays, "optimizer.lr=1e36", "task.schedule.warmup=0.99")
    assert watched.finite()


def test_without_the_guard_the_weights_become_nan(arrays, tmp_path, no_report, monkeypatch):
    watched = Watched(monkeypatch)
    monkeypatch.setattr("sciml.runtime.training.FiniteGuard", Callback)
    with pytest.raises(ValueError, match="val/relative_l2 was never finite"):
        finish(tmp_path / "run", *arrays, *DIVERGES)
    assert not watched.finite()
    last = weights(tmp_path / "run", "last")
    assert not all(v.isfinite().all() for v in last.values())


def test_a_nan_gradient_names_the_parameter(arrays, tmp_path, no_report, monkeypatch):
    watched = Watched(monkeypatch)
    step = Supervised.training_step

    def poisoned(task, batch, index):
        weight = task.model.lifting[0].weight
        return step(task, batch, index) + (weight - weight).sum().sqrt()  # 0, derivative inf - inf

    monkeypatch.setattr(Supervised, "training_step", poisoned)
    with pytest.raises(NonFiniteError, match=r"1 tensors, first model.lifting.0.weight; loss"):
        finish(tmp_path / "run", *arrays)
    assert watched.finite()


def test_a_loss_that_is_nan_stops_the_run(arrays, tmp_path, no_report, monkeypatch):
    """Where gradients are finite: inf / inf is NaN, its derivative finite / inf = 0."""
    loss = Supervised.training_step
    monkeypatch.setattr(Supervised, "training_step", lambda *step: loss(*step) + torch.nan)
    with pytest.raises(NonFiniteError, match=r"the loss is not finite at step 0 \(epoch 1\): nan"):
        finish(tmp_path / "run", *arrays)


def test_a_norm_that_overflows_is_told_as_that(arrays, tmp_path, no_report, monkeypatch):
    loss = Supervised.training_step
    monkeypatch.setattr(Supervised, "training_step", lambda *step: 1e30 * loss(*step))
    with pytest.raises(NonFiniteError, match=r"\(epoch 1\): its norm overflows; loss"):
        finish(tmp_path / "run", *arrays)


def test_a_run_without_validation_chooses_nothing(arrays, tmp_path, no_report):
    with pytest.raises(ValueError, match=r"validation never ran, .*last.ckpt holds the last ones"):
        rare = ("+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=1")
        finish(tmp_path / "run", *arrays, *rare)
    assert weights(tmp_path / "run", "last")


def test_evaluation_is_where_training_is(complete, arrays, tmp_path, no_report, monkeypatch):
    """There is no other device here: the task is asked to move where the trainer would."""
    moved = []
    monkeypatch.setattr(program, "device", lambda config: "meta-device")
    monkeypatch.setattr(Supervised, "to", lambda task, where: moved.append(where) or task)
    best = complete[0] / "checkpoints" / "best.ckpt"
    finish(tmp_path / "run", *arrays, "fit=false", f"ckpt_path={best}")
    assert moved == ["meta-device"]
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["machine"]["device"] == "meta-device"


def test_the_threads_of_one_run_are_not_those_of_the_next(arrays, tmp_path, no_report, monkeypatch):
    monkeypatch.setattr(program, "THREADS", 1)
    seen = []
    monkeypatch.setattr(program, "fit", lambda *_: seen.append(torch.get_num_threads()) or 1 / 0)
    for name, threads in (("two", "2"), ("unsaid", "null")):
        with pytest.raises(ZeroDivisionError):
            finish(tmp_path / name, *arrays, f"threads={threads}")
    assert seen == [2, 1]


@pytest.mark.parametrize("blocks", [1, 1000])
def test_memory_is_that_of_this_run(arrays, tmp_path, no_report, blocks):
    """What was freed before does not count, small blocks that malloc keeps neither."""
    keep_freed_memory()
    before = PeakMemory()
    block = [np.ones(100_000_000 // blocks) for _ in range(blocks)]
    peak = before.megabytes()
    assert peak > 750  # of the 800; the kernel counts in steps
    if before.since_start:
        pytest.skip("this kernel does not start the count afresh")
    del block
    figures = finish(tmp_path / "run", *arrays, "trainer.max_epochs=1")
    assert figures["peak_rss_mb"] < peak - 100


def test_what_malloc_keeps_counts_unless_it_is_given_back(monkeypatch):
    if not keep_freed_memory() or PeakMemory().since_start:
        pytest.skip("needs glibc and a kernel that starts the count afresh")
    monkeypatch.setattr("sciml.runtime.peak_memory.give_back", lambda: None)
    blocks = [np.ones(100_000) for _ in range(1000)]
    del blocks
    kept = PeakMemory().megabytes()
    monkeypatch.undo()
    assert PeakMemory().megabytes() < kept - 600


def test_figures_stay_when_the_report_fails(arrays, tmp_path, monkeypatch):
    def broken(folder):
        raise OSError("no space")

    monkeypatch.setattr(program, "write_report", broken)
    folder, config = RunFolder(tmp_path / "run"), compose([*TINY, *arrays, "trainer.max_epochs=1"])
    with pytest.raises(OSError, match="no space") as failure:
        run(config, folder)
    before = (folder.path / "metrics.json").read_bytes()
    assert json.loads(before)["test/relative_l2"] > 0
    folder.write_failure(failure.value)
    assert (folder.path / "metrics.json").read_bytes() == before


def test_of_many_at_once_one_gets_the_folder(tmp_path):
    start, won, lost = threading.Barrier(8), [], []

    def claim():
        start.wait()
        try:
            won.append(RunFolder(tmp_path / "run"))
        except ValueError as error:
            lost.append(str(error))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and len(lost) == 7
    assert all("is in use by another run" in line for line in lost)


def test_a_used_folder_is_refused(complete):
    path = complete[0]
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match=r"already holds a run \(config.yaml, metrics.json\)"):
        RunFolder(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    "override, expected",
    [
        ("checkpoint_every=0", "checkpoint_every=0 must be a whole number, at least 1"),
        ("checkpoint_every=0.5", "checkpoint_every=0.5 must be a whole number"),
        ("batch_size=null", "batch_size=None must be a whole number, at least 1"),
        ("batch_size=true", "batch_size=True must be a whole number"),
        ("seed=-1", "seed=-1 must be a whole number, at least 0"),
        ("seed=one", "seed=one must be a whole number"),
        ("threads=0", "threads=0 must be a whole number, at least 1"),
        ("num_workers=-1", "num_workers=-1 must be a whole number, at least 0"),
        ("fit=fales", "fit=fales must be true or false"),
        ("name=a/b", "name=a/b must be a word"),
        ("name=null", "name=None must be a word"),
        ("ckpt_path=5", "ckpt_path=5 must be the path of a checkpoint"),
        ("ckpt_path=", "ckpt_path= must be the path of a checkpoint"),
        ("+experiment={optimizer: {lr: 1}}", "must begin with the line `# @package _global_`"),
        ("data.seed=-1", "seed=-1 of the split must be a whole number"),
        ("trainer.limit_val_batches=0", "limit_val_batches=0: validation chooses the weights"),
        ("trainer.precision=bf16-true", "precision=bf16-true: Fourier modes are complex"),
        ("trainer.limit_train_batches=0", "limit_train_batches=0 leaves no batch to train on"),
        ("+trainer.strategy=ddp", "trainer: DDPStrategy is not supported"),
        (
            "trainer.limit_train_batches=1.5",
            "trainer: .* invalid value 1.5 for limit_train_batches",
        ),
    ],
)
def test_settings_of_the_wrong_kind_are_refused(arrays, tmp_path, override, expected):
    with pytest.raises(ValueError, match=expected):
        finish(tmp_path / "run", *arrays, override)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["curvature=kfac", "curvature.damping=-1"], "damping=-1 must be positive"),
        (["curvature=kfac", "optimizer=muon"], "takes the length of its steps from AdamW"),
        (["optimizer=soap", "optimizer.factor_period=0"], "factor_period=0"),
    ],
)
def test_methods_refuse_their_settings_before_data_are_read(
    arrays, tmp_path, monkeypatch, overrides, expected
):
    def read(_):
        raise AssertionError("data were read first")

    monkeypatch.setattr(program, "instantiate", read)
    with pytest.raises(ValueError, match=expected):
        finish(tmp_path / "run", *arrays, *overrides)


def test_training_learns(tmp_path, no_report):
    """A few epochs bring the test error far below that of predicting the mean, which is 1."""
    overrides = save_pairs(tmp_path / "data", *smooth_pairs(480, (8, 8)))
    settings = ("model.width=12", "optimizer.lr=1e-2", "batch_size=12", "trainer.max_epochs=6")
    periodic = ("data.boundary=periodic", "data.points=left")
    figures = finish(tmp_path / "run", *overrides, *periodic, *settings)
    assert figures["test/vrmse"] < 0.5
