"""`python -m sciml.curvature.analyse`: what it makes of a run, and what it refuses."""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
import torch
from PIL import Image

from sciml.curvature.analyse import analyse
from sciml.evaluation.curvature import pictures, section, summary
from sciml.evaluation.report import write_report
from sciml.runtime.trained_run import TrainedRun
from tests import helpers
from tests.helpers import ROOT, finish, module, save_pairs, smooth_pairs

# it is run as a program after it was imported
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
FEW = ("samples=8", "steps=6", "vectors=2", "eigenvalues=3", "grid=5")
command = partial(module, "sciml.curvature.analyse")


def asked(run: Path, *overrides: str):
    return helpers.asked("analyse", run, *FEW, *overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory, arrays) -> Path:
    folder = tmp_path_factory.mktemp("analyse") / "run"
    finish(folder, *arrays, "curvature=none")
    return folder


@pytest.fixture(scope="module")
def record(run):
    return analyse(asked(run, "double=true"))[1]


def test_the_loss_is_that_of_the_training(run, record):
    """Of the samples that the seed draws, with the normalisation of the checkpoint."""
    opened = TrainedRun.open(str(run / "checkpoints" / "best.ckpt"))
    source = opened.dataset.source("train")
    rows = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))[:8]
    batch = source.__getitems__(rows.sort().values.tolist())
    loss = opened.task.training_loss(batch)
    assert record["loss"] == pytest.approx(loss.item(), rel=1e-5)
    weights = opened.checkpoint["state_dict"]
    assert torch.equal(opened.task.input_normalizer.mean, weights["input_normalizer.mean"])
    gradient = torch.autograd.grad(loss, list(opened.task.parameters()))
    norm = torch.stack([g.norm() for g in gradient]).norm()
    assert record["gradient_norm"] == pytest.approx(float(norm), rel=1e-4)


def test_a_second_order_run_has_no_rate_of_adam(arrays, tmp_path):
    """The default of the model: its rate is no rate along Adam's direction, and that is told."""
    finish(tmp_path / "run", *arrays)
    record = analyse(asked(tmp_path / "run"))[1]
    assert record["steps_along"] == "sciml.curvature.KFAC" and "adam" not in record["learning_rate"]
    assert dict(summary(record))["Stable rate, Adam"] == "none for this run: its steps are KFAC's"


def test_spectrum_and_traces_agree_with_one_another(run, record):
    hessian, layers = record["hessian"], record["layers"]
    first, *others = hessian["eigenvalues"]
    assert first > others[0] >= others[1] > 0 > hessian["smallest"]
    assert max(hessian["residuals"]) < 2e-3 * first
    assert hessian["first"]["value"] == pytest.approx(first, rel=1e-3)
    total = sum(layer["value"] for layer in layers)
    assert hessian["trace"]["value"] == pytest.approx(total, rel=1e-9)
    assert sum(layer["parameters"] for layer in layers) == record["parameters"]
    opened = TrainedRun.open(str(run / "checkpoints" / "best.ckpt"))
    assert [x["name"] for x in layers] == [n for n, _ in opened.task.model.named_parameters()]
    assert record["gauss_newton"]["eigenvalue"] > 0
    np.testing.assert_allclose(np.sum(record["density"]["weights"], axis=1), 1)
    assert 0 < hessian["negative"]["share"]["value"] < 1


def test_suggestions_follow_from_it(record):
    rates, first = record["learning_rate"], record["hessian"]["eigenvalues"][0]
    assert rates["descent"]["limit"] == pytest.approx(2 / first)
    adam = rates["adam"]
    assert adam["limit"] * adam["eigenvalue"] == pytest.approx(38, rel=0.2)  # one cycle of betas
    assert adam["momentum"] == 0.9 and 0 < adam["rate"] < record["run_rate"]
    assert record["run_batch_size"] == 8 and set(record["batch_size"]) == {"simple", "curved"}


def test_planes(record):
    eigenvectors, random = (record["planes"][name] for name in ("eigenvectors", "random"))
    assert eigenvectors["loss"][2][2] == random["loss"][2][2] == pytest.approx(record["loss"])
    assert eigenvectors["curvature"] == record["hessian"]["eigenvalues"][:2]
    for axis, curvature in zip("xy", eigenvectors["curvature"], strict=True):
        assert curvature * eigenvectors[axis][-1] ** 2 / 2 == pytest.approx(4 * record["loss"])
    assert 0 < max(map(abs, eigenvectors["slope"])) < record["gradient_norm"]
    assert random["x"] == [-1, -0.5, 0, 0.5, 1]
    assert min(min(row) for row in random["loss"]) > 0


def test_the_command_and_the_report(run, tmp_path, capsys):
    """Files beside the report, which then has a section; without the file it has none."""
    folder = shutil.copytree(run, tmp_path / "run")
    assert "<h2>Curvature</h2>" not in write_report(folder).read_text()
    done = command(f"ckpt_path={folder / 'checkpoints' / 'best.ckpt'}", *FEW, capsys=capsys)
    assert (done.code, done.err) == (0, "")
    record = json.loads((folder / "curvature.json").read_text())
    for name, value in summary(record):
        assert name in done.out and value.split()[0] in done.out
    assert "they do not choose one" in done.out.replace("\n", " ")
    pngs = sorted(path.stem for path in (folder / "curvature").iterdir())
    assert pngs == ["counts", "eigenvectors", "layers", "random", "spectrum"]
    for path in (folder / "curvature").iterdir():
        assert min(Image.open(path).size) > 300
    page = (folder / "report.html").read_text()
    part = page[page.index("<h2>Curvature</h2>") : page.index("<h2>Data</h2>")]
    assert part.count("<img") == 5 and "Effective dimension" in part
    for layer in record["layers"]:
        assert f"<td>{layer['name']}</td>" in part
    assert all(note.split("[")[0][:60] in part for note in section(record)["notes"])


def test_again_is_the_same(run, record):
    again = analyse(asked(run, "double=true"))[1]
    assert {**again, "seconds": 0} == {**record, "seconds": 0}
    other = analyse(
        asked(run, "seed=1", "planes=false", "batch_size=3", "split=valid", "samples=3")
    )
    assert other[1]["planes"] == {} and other[1]["loss"] != record["loss"]
    assert set(pictures(other[1])) == {"spectrum", "counts", "layers"}


def test_complex_weights_and_trajectories(tmp_path, no_report):
    """A model of neuraloperator, trained by roll-outs with noise, its data elsewhere by now."""
    overrides = ("data=burgers", "data.resolution=32", "data.pde.num_steps=3", "task=rollout")
    overrides += ("data.pde.counts={train: 4, valid: 2, test: 2}", "data.pde.stepper.dt=0.05")
    overrides += ("data.pde.stepper.substeps=8", "data.window.horizon=2", "task.noise=0.01")
    overrides += ("++data.pde.tail=null", "++data.pde.accuracy=1", "model=neuralop_fno")
    overrides += ("model.settings.n_modes=4", "model.settings.hidden_channels=4")
    run_in(tmp_path / "run", *overrides, f"data_dir={tmp_path / 'data'}")
    moved = shutil.move(tmp_path / "data", tmp_path / "moved")
    here = f"data_dir={moved}"
    record = analyse(asked(tmp_path / "run", "samples=4", "planes=false", here))[1]
    path = str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    opened = TrainedRun.open(path, data_dir=moved)
    numbers = sum(p.numel() * (1 + p.is_complex()) for p in opened.task.parameters())
    assert record["parameters"] == numbers and any(p.is_complex() for p in opened.task.parameters())
    assert record["hessian"]["eigenvalues"][0] > 0 and "adam" in record["learning_rate"]
    with pytest.raises(ValueError, match="double=true: the model has no float64"):
        analyse(asked(tmp_path / "run", "samples=4", "double=true", here))
    assert not (tmp_path / "data").exists()


def run_in(path: Path, *overrides: str) -> None:
    """A run with a model that has no settings of `TINY`."""
    from sciml.run import run
    from sciml.runtime.run_folder import RunFolder
    from tests.helpers import compose

    folder = RunFolder(path)
    config = compose(["trainer.max_epochs=1", "batch_size=4", *overrides])
    folder.write_config(config, list(overrides))
    run(config, folder)


REFUSED = {
    "samples=2": "samples=2 must be a whole number, at least 3",
    "samples=1000": "more than the 32 of split=train",
    "vectors=1": "vectors=1 must be a whole number, at least 2",
    "steps=1.5": "steps=1.5 must be a whole number",
    "grid=4": "grid=4 must be odd",
    "planes=some": "planes=some must be true or false",
    "split=test": "split=test must be train or valid",
    "data_dir=elsewhere": "data_dir=elsewhere: the data of this run were not computed",
}


@pytest.mark.parametrize("override", REFUSED)
def test_refused_settings(override, run):
    with pytest.raises(ValueError, match=REFUSED[override]):
        analyse(asked(run, override))


def test_refused_checkpoints(run, tmp_path):
    with pytest.raises(ValueError, match="no such checkpoint"):
        analyse(asked(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    shutil.copy(run / "checkpoints" / "best.ckpt", tmp_path / "checkpoints")
    with pytest.raises(ValueError, match="there is no config.yaml in"):
        analyse(asked(tmp_path))
    (tmp_path / "config.yaml").write_text("model: 1\n")
    with pytest.raises(ValueError, match="config.yaml: not the configuration of a run"):
        analyse(asked(tmp_path))
    text = (run / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("width: 6", "width: 4"))
    with pytest.raises(ValueError, match="a checkpoint of another model"):
        analyse(asked(tmp_path))


def test_other_data_are_refused(run, tmp_path):
    save_pairs(tmp_path, *smooth_pairs(seed=1))
    here = (f"+data.input={tmp_path / 'a.npy'}", f"+data.target={tmp_path / 'u.npy'}")
    with pytest.raises(ValueError, match="trained on other data than .* whose hash is"):
        analyse(asked(run, *here))
    with pytest.raises(ValueError, match="whose split is"):
        analyse(asked(run, "+data.seed=5"))


def test_a_loss_that_is_not_finite_is_refused(run, monkeypatch):
    opened = TrainedRun.open(str(run / "checkpoints" / "best.ckpt"))
    opened.task.target_normalizer.std.fill_(torch.nan)
    monkeypatch.setattr(TrainedRun, "open", lambda *a, **k: opened)
    with pytest.raises(ValueError, match="the loss on these samples is nan"):
        analyse(asked(run))


def test_missing_curvlinops_is_named(run):
    modules = {name: None for name in ("curvlinops", "sciml.curvature.analysis")}
    with (
        patch.dict(sys.modules, modules),
        pytest.raises(
            ValueError, match=r"curvlinops is not installed .*pip install '.\[analysis\]'"
        ),
    ):
        analyse(asked(run))


def test_a_mistyped_command_line(run, folder, capsys):
    """One line, and an exit code; `--help` lists the settings."""
    path = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    for arguments, code, text in (
        (
            [path, "sampels=3"],
            2,
            "sampels: no such key in the configuration (did you mean samples?)",
        ),
        ([], 1, "ckpt_path is not given and has no default"),
        ([path, "-m"], 1, "-m: a command analyses one checkpoint"),
        (["ckpt_path=none.ckpt"], 1, "none.ckpt: no such checkpoint"),
    ):
        done = command(*arguments, capsys=capsys)
        assert done.code == code and done.err.startswith(f"error: {text}"), done
        assert done.err.count("\n") == 1
    done = command("--help", capsys=capsys)
    assert done.code == 0 and "vectors: 4" in done.out
    assert list(folder.iterdir()) == []


def test_neither_training_nor_reports_import_curvlinops():
    imports = "import sys, sciml.curvature, sciml.evaluation.report"
    program = f"{imports}; assert 'curvlinops' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
