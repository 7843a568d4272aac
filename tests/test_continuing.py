"""A run that goes on from a checkpoint: as itself alone, with the curves and time of all parts."""

import json
import shutil

import numpy as np
import pytest
import torch

from sciml.evaluation.run_folder import read_curves, read_run
from sciml.runtime.checkpoint_io import load_checkpoint
from sciml.runtime.history import take_curves
from sciml.tasks import Supervised
from tests.helpers import equal, finish, save_pairs, smooth_pairs, weights

CONSTANT = ("task/schedule=constant",)


def test_a_run_continued_without_its_best_checkpoint_finds_one_of_its_own(
    arrays, tmp_path, no_report
):
    """The best score of the first part is out of reach when its weights are not there."""
    finish(tmp_path / "first", *arrays, *CONSTANT, "trainer.max_epochs=1")
    lone = tmp_path / "last.ckpt"
    state = load_checkpoint(tmp_path / "first" / "checkpoints" / "last.ckpt")
    state["callbacks"]["Checkpoints"]["score"] = 0.0
    torch.save(state, lone)
    figures = finish(tmp_path / "run", *arrays, *CONSTANT, f"ckpt_path={lone}")
    assert figures["best_epoch"] == 2
    assert not (tmp_path / "run" / "earlier.csv").exists()  # nor are there curves beside it


@pytest.mark.parametrize(
    "changed",
    [
        "trainer.max_epochs=3",
        "trainer.max_steps=5",
    ],
)
def test_a_schedule_is_not_stretched(complete, arrays, tmp_path, changed):
    last = complete[0] / "checkpoints" / "last.ckpt"
    with pytest.raises(
        ValueError, match=r"schedule of the checkpoint spans 8 steps, this run \d+; go on"
    ):
        finish(tmp_path / "run", *arrays, f"ckpt_path={last}", changed)


@pytest.mark.parametrize(
    "changed, expected",
    [
        ("seed=1", "seed was 0, is 1"),
        ("batch_size=4", "batch_size was 8, is 4"),
        ("optimizer.lr=1e-5", "optimizer.lr was 0.004, is 1e-05"),
        ("task.loss._target_=sciml.losses.RelativeH1", r"task.loss._target_ was sciml\S*L2, is"),
        ("trainer.accumulate_grad_batches=2", "trainer.accumulate_grad_batches was 1, is 2"),
        ("data.seed=1", r"data.split was train 0.8, .*; seed 0, is train 0.8, .*; seed 1"),
        ("+task.loss.floor=1e-6", "task.loss.floor was not set, is 1e-06"),
        ("trainer.limit_train_batches=2", "trainer.limit_train_batches was 1.0, is 2"),
        (
            "data.points=left",
            "data.x was not periodic, points at cells, is not periodic, points at left",
        ),
    ],
)
def test_a_run_does_not_go_on_as_another(complete, arrays, tmp_path, changed, expected):
    last = complete[0] / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=f"{last}: a run goes on with .*, but {expected}"):
        finish(tmp_path / "run", *arrays, f"ckpt_path={last}", changed)


def test_other_settings_are_refused_before_data_are_read(complete, arrays, tmp_path, monkeypatch):
    def read(_):
        raise AssertionError("data were read first")

    monkeypatch.setattr("sciml.run.instantiate", read)
    last = complete[0] / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match="but batch_size was 8, is 4"):
        finish(tmp_path / "run", *arrays, f"ckpt_path={last}", "batch_size=4")


def test_of_another_method_its_name_is_told_alone(complete, arrays, tmp_path):
    last = complete[0] / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match="but .*curvature._target_ was sciml.*KFAC, is") as error:
        finish(tmp_path / "run", *arrays, f"ckpt_path={last}", "curvature=mkor")
    assert "curvature.damping" not in str(error.value)


def test_a_run_of_before_is_told_to_go_on_without_curvature(arrays, tmp_path):
    """One whose settings had none, now that the model has one of its own."""
    finish(tmp_path / "first", *arrays, "curvature=none")
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"_target_ was not set, is .*KFAC.* had curvature=none"):
        finish(tmp_path / "second", *arrays, f"ckpt_path={last}")


def test_a_run_of_before_is_told_to_go_on_with_adamw(arrays, tmp_path):
    finish(tmp_path / "first", *arrays, "curvature=none")
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"is .*SpectralMuon.*which had optimizer=adamw\."):
        finish(tmp_path / "second", *arrays, f"ckpt_path={last}", "optimizer=muon")


def test_a_run_does_not_go_on_with_other_data(complete, tmp_path):
    last = complete[0] / "checkpoints" / "last.ckpt"
    other = save_pairs(tmp_path / "data", *smooth_pairs(seed=1))
    with pytest.raises(ValueError, match=r"but data.hash was \w+, is \w+\."):
        finish(tmp_path / "run", *other, f"ckpt_path={last}")
    state = load_checkpoint(last)
    del state["origin"]
    torch.save(state, tmp_path / "anonymous.ckpt")
    with pytest.raises(ValueError, match="anonymous.ckpt: does not say what it was trained with"):
        finish(tmp_path / "run2", *other, f"ckpt_path={tmp_path / 'anonymous.ckpt'}")


def test_a_run_does_not_go_on_with_other_windows(tmp_path, no_report):
    frames = np.random.default_rng(0).standard_normal((12, 5, 16, 16), dtype=np.float32)
    np.save(tmp_path / "a.npy", frames)
    data = ("data=trajectories", f"path={tmp_path / 'a.npy'}", "dt=0.1")
    finish(tmp_path / "first", *data, *CONSTANT, "trainer.max_epochs=1")
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match="but data.window.stride was 1, is 2"):
        finish(tmp_path / "run", *data, *CONSTANT, f"ckpt_path={last}", "data.window.stride=2")


def test_data_that_moved_are_the_same_data(complete, arrays, tmp_path, no_report):
    a, u = (np.load(line.partition("=")[2]) for line in arrays[1:])
    moved = save_pairs(tmp_path / "moved", a, u)
    last = complete[0] / "checkpoints" / "last.ckpt"
    figures = finish(tmp_path / "run", *moved, f"ckpt_path={last}")
    assert figures["test/relative_l2"] == complete[1]["test/relative_l2"]


def test_rows_that_were_trained_on_are_not_tested(complete, arrays, tmp_path, no_report):
    """Another seed of the split makes training rows test rows; other data are no such case."""
    alone = ("fit=false", f"ckpt_path={complete[0] / 'checkpoints' / 'best.ckpt'}")
    for changed in ("data.seed=1", "data.split={train: 0.5, valid: 0.1, test: 0.4}"):
        with pytest.raises(ValueError, match="test samples may be among those it has learnt"):
            finish(tmp_path / changed[:9], *arrays, *alone, changed)
    with pytest.raises(ValueError, match="axis x was not periodic, points at cells in training"):
        finish(tmp_path / "left", *arrays, *alone, "data.points=left")
    other = save_pairs(tmp_path / "data", *smooth_pairs(seed=1))
    figures = finish(tmp_path / "run", *other, *alone, "data.seed=1")
    assert figures["test/samples"] == 4


def test_weights_alone_can_be_tested_and_not_continued(complete, arrays, tmp_path, no_report):
    state = load_checkpoint(complete[0] / "checkpoints" / "best.ckpt")
    lone = tmp_path / "weights.ckpt"
    torch.save({"state_dict": state["state_dict"]}, lone)
    with pytest.raises(ValueError, match="weights.ckpt: holds weights alone, .* fit=false"):
        finish(tmp_path / "run", *arrays, f"ckpt_path={lone}")
    figures = finish(tmp_path / "tested", *arrays, f"ckpt_path={lone}", "fit=false")
    assert figures["test/relative_l2"] == complete[1]["test/relative_l2"]


def test_a_finished_run_goes_on_for_no_step(complete, arrays, tmp_path, no_report):
    last = complete[0] / "checkpoints" / "last.ckpt"
    figures = finish(tmp_path / "run", *arrays, f"ckpt_path={last}")
    assert equal(weights(tmp_path / "run"), weights(complete[0]))
    assert figures["test/relative_l2"] == complete[1]["test/relative_l2"]
    assert figures["best_epoch"] == complete[1]["best_epoch"]


def test_a_continued_run_has_the_curves_and_the_time_of_both_parts(arrays, tmp_path, no_report):
    steady = (*arrays, *CONSTANT)
    first = finish(tmp_path / "first", *steady, "trainer.max_epochs=2")
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    second = finish(tmp_path / "second", *steady, "trainer.max_epochs=3", f"ckpt_path={last}")
    last = tmp_path / "second" / "checkpoints" / "last.ckpt"
    finish(tmp_path / "third", *steady, "trainer.max_epochs=4", f"ckpt_path={last}")
    whole = finish(tmp_path / "whole", *steady, "trainer.max_epochs=4")
    found, expected = (read_run(tmp_path / name).curves for name in ("third", "whole"))
    for quantity, splits in expected.items():
        for split, (epochs, values) in splits.items():
            assert found[quantity][split][0].tolist() == epochs.tolist() == [1, 2, 3, 4]
            assert found[quantity][split][1].tolist() == values.tolist()
    assert first["train_before_s"] == whole["train_before_s"] == 0
    assert 0 < second["train_before_s"] <= first["train_s"] + 1e-3
    assert second["train_s"] > second["train_before_s"]
    about = json.loads((tmp_path / "second" / "run.json").read_text())
    assert about["continued_from"] == str(tmp_path / "first" / "checkpoints" / "last.ckpt")


def test_curves_of_a_run_stopped_in_mid_epoch(arrays, tmp_path, no_report, monkeypatch):
    """The validation error of every epoch; the training loss of the second is that of its rest."""
    monkeypatch.setattr("sciml.runtime.training.LOG_EVERY", 1)
    settings = (*arrays, "trainer.max_epochs=3", "checkpoint_every=6")
    whole = finish(tmp_path / "whole", *settings)
    with monkeypatch.context() as patch:
        step = Supervised.training_step
        fail = lambda task, *a: step(task, *a) if task.global_step < 7 else 1 / 0  # noqa: E731
        patch.setattr(Supervised, "training_step", fail)
        with pytest.raises(ZeroDivisionError):
            finish(tmp_path / "first", *settings)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    assert load_checkpoint(last)["global_step"] == 6  # of 4 a epoch
    figures = finish(tmp_path / "second", *settings, f"ckpt_path={last}")
    assert figures["test/relative_l2"] == whole["test/relative_l2"]
    found, expected = (read_run(tmp_path / name).curves for name in ("second", "whole"))
    for quantity, splits in expected.items():
        for split, (epochs, values) in splits.items():
            assert found[quantity][split][0].tolist() == epochs.tolist() == [1, 2, 3]
            same = found[quantity][split][1] == values
            assert same.tolist() == [True, split == "val", True]


@pytest.mark.parametrize("place", ["elsewhere", "checkpoints"])
def test_curves_of_others_are_not_taken(complete, tmp_path, place):
    """A checkpoint that does not lie in a run, and a log whose steps are no numbers."""
    lone = tmp_path / place / "last.ckpt"
    lone.parent.mkdir()
    shutil.copy(complete[0] / "checkpoints" / "last.ckpt", lone)
    (tmp_path / "metrics.csv").write_text("epoch,step,train/loss\n0,0.5,7\n0,1,8\n")
    (tmp_path / "into").mkdir()
    take_curves(lone, 4, tmp_path / "into")
    assert not (tmp_path / "into" / "earlier.csv").exists()
    if place == "checkpoints":
        (tmp_path / "run.json").write_text("{}")
        take_curves(lone, 4, tmp_path / "into")
        curves = read_curves(tmp_path / "into" / "earlier.csv")
        assert curves["loss"]["train"][1].tolist() == [8.0]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory) -> list[str]:
    """neuraloperator's kind of files, two of them."""
    folder = tmp_path_factory.mktemp("pairs")
    for seed, name in enumerate(("train", "test")):
        a, u = (torch.from_numpy(v).float() for v in smooth_pairs(30, seed=seed))
        torch.save({"x": a, "y": u}, folder / f"{name}.pt")
    files = [f"data.{name}={folder / name}.pt" for name in ("train", "test")]
    return ["data=neuralop_pt", "data.num_valid=5", *files]


def test_a_file_that_was_trained_on_is_not_tested(pairs, tmp_path, no_report):
    figures = finish(tmp_path / "run", *pairs, "trainer.max_epochs=1")
    alone = ("fit=false", f"ckpt_path={tmp_path / 'run' / 'checkpoints' / 'best.ckpt'}")
    again = finish(tmp_path / "again", *pairs, *alone, "data.seed=1")  # test is a file of its own
    assert again["test/relative_l2"] == figures["test/relative_l2"]
    train, test = (line.partition("=")[2] for line in pairs[2:])
    swapped = [*pairs[:2], f"data.train={test}", f"data.test={train}"]
    with pytest.raises(ValueError, match="was trained on samples of these files"):
        finish(tmp_path / "swapped", *swapped, *alone)
    copied = shutil.copy(train, tmp_path / "copy.pt")
    with pytest.raises(ValueError, match="copy.pt: the test file is the training file"):
        finish(tmp_path / "same", *pairs[:3], f"data.test={copied}")
