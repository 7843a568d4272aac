"""`python -m sciml.curvature.attribute`: what it finds in a run, and what it refuses."""

import io
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.schema import Batch
from sciml.curvature.attribute import attribute
from sciml.curvature.influence import Influence
from sciml.evaluation.influence import caption, notes, rows, summary
from sciml.evaluation.influence_figure import query_panels
from sciml.evaluation.panels import Fields
from sciml.evaluation.report import write_report
from sciml.evaluation.result import Evaluation
from sciml.gauss_newton import Expansion
from sciml.runtime.trained_run import TrainedRun
from tests import helpers
from tests.helpers import finish, module, save_pairs, smooth_pairs

# it is run as a program after it was imported
pytestmark = pytest.mark.filterwarnings("ignore:.*found in sys.modules:RuntimeWarning")
ALL = ("samples=null", "double=true")
asked = partial(helpers.asked, "attribute")
command = partial(module, "sciml.curvature.attribute")


def opened(run: Path) -> TrainedRun:
    return TrainedRun.open(str(run / "checkpoints" / "best.ckpt"))


def made(folder: Path, *overrides: str) -> Path:
    """A run without the pictures of its report."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sciml.run.write_report", lambda folder: folder)
        finish(folder, *overrides)
    return folder


@pytest.fixture(scope="module")
def planted(tmp_path_factory, parts) -> Path:
    """A run in one dimension whose test samples 1 and 2 are unlike all but one training sample: 1
    almost agrees with training sample 5, 2 has the input of 9 and the opposite target.
    """
    a, u = smooth_pairs(shape=(16,))
    u = u / u.std()
    x, noise = 2 * np.pi * np.arange(16) / 16, np.random.default_rng(0).normal(size=16)
    for query, twin, k, sign in ((1, 5, 3, 1), (2, 9, 5, -1)):
        test, train = parts["test"][query], parts["train"][twin]
        a[test], u[test] = 2 * np.cos(k * x), 2 * np.sin(k * x)
        a[train], u[train] = a[test] + 0.05 * noise, sign * u[test]
    folder = tmp_path_factory.mktemp("planted")
    overrides = ("data.ndim=1", "trainer.max_epochs=8", "optimizer.lr=1e-2")
    overrides += ("model.width=12", "model.modes=6")
    return made(folder / "run", *save_pairs(folder, a, u), *overrides)


@pytest.fixture(scope="module")
def run(tmp_path_factory, arrays) -> Path:
    """In two dimensions, hardly trained."""
    return made(tmp_path_factory.mktemp("attribute") / "run", *arrays)


@pytest.fixture(scope="module")
def record(run):
    return attribute(asked(run, *ALL, "queries=[2,0]")).record


@pytest.fixture
def no_figure(monkeypatch):
    """Drawing takes longer than the rest."""
    monkeypatch.setattr("sciml.curvature.attribute.query_panels", lambda *arguments: b"")


def double(batch: Batch) -> Batch:
    return Batch(*(part.double() for part in batch))


def test_scores_are_those_of_the_library(run, record):
    """On the same samples, with the same draws of noise."""
    again = opened(run)
    task = again.task.double()
    train, test = (again.dataset.source(split) for split in ("train", "test"))

    def loss(number: int) -> Expansion:
        batch = double(test.__getitems__([number]))
        return task.expand(batch)

    torch.manual_seed(0)
    expand = lambda m: task.expand(double(train.__getitems__(m)))  # noqa: E731
    found = Influence(task.model, expand, len(train), batch_size=8)
    scores = found.scores([loss(2), loss(0)])
    assert record["numbers"] == list(range(32))
    np.testing.assert_allclose([q["scores"] for q in record["queries"]], scores, rtol=1e-9)
    assert record["coverage"] == found.curvature.coverage.summary()


def test_the_loss_and_the_error_are_those_of_the_prediction(run, record):
    again = opened(run)
    for query in record["queries"]:
        batch = again.dataset.source("test").__getitems__([query["number"]])
        prediction = again.task(batch.input)
        error = (prediction - batch.target).norm() / batch.target.norm()
        assert query["loss"] == pytest.approx(float(error), rel=1e-5)
        assert query["error"] == pytest.approx(float(error), rel=1e-5)


def test_a_near_duplicate_helps_most_and_a_contradiction_hurts_most(planted, no_figure):
    """Of all training samples."""
    found = attribute(asked(planted, *ALL, "queries=[1,2]", "top=1")).record
    alike, contradicted = found["queries"]
    assert alike["helped"][0]["number"] == 5
    assert contradicted["hurt"][0]["number"] == 9


def test_both_ends_are_ranked(record):
    for query in record["queries"]:
        scores = dict(zip(record["numbers"], query["scores"], strict=True))
        order = sorted(scores, key=scores.get)
        helped, hurt = (
            [(one["number"], one["score"]) for one in query[k]] for k in ("helped", "hurt")
        )
        assert helped == [(m, scores[m]) for m in order[::-1][:3]]
        assert hurt == [(m, scores[m]) for m in order if scores[m] < 0][:3]
        positive = sum(score for score in scores.values() if score > 0)
        assert query["carried"] == pytest.approx(sum(scores[m] for m, _ in helped) / positive)


def test_the_seed_draws_the_samples(run):
    """Once more is the same; only samples that were drawn are named."""
    few = ("samples=6", "seed=3", "queries=1", "double=true")
    first, again = (attribute(asked(run, *few)) for _ in range(2))
    assert {**first.record, "seconds": 0} == {**again.record, "seconds": 0}
    assert first.pictures == again.pictures
    drawn = torch.randperm(32, generator=torch.Generator().manual_seed(3))[:6]
    assert first.record["numbers"] == sorted(drawn.tolist())
    (query,) = first.record["queries"]
    assert {one["number"] for one in query["helped"] + query["hurt"]} <= set(drawn.tolist())
    assert ("Samples", "6 of 32 training samples, drawn with seed 3") in summary(first.record)
    other = attribute(asked(run, *few, "seed=4")).record
    assert other["numbers"] != first.record["numbers"]


def test_a_number_of_queries_asks_for_the_largest_errors(run, no_figure):
    again = opened(run)
    batch = again.dataset.source("test").__getitems__(range(4))
    with torch.no_grad():
        errors = (again.task(batch.input) - batch.target).flatten(1).norm(dim=1)
    order = (errors / batch.target.flatten(1).norm(dim=1)).argsort(descending=True)
    found = attribute(asked(run, "queries=3", "samples=2")).record["queries"]
    assert [query["number"] for query in found] == order[:3].tolist()
    found = attribute(asked(run, "queries=99", "samples=2")).record["queries"]
    assert len(found) == 4  # all there are


def test_the_command_and_the_report(run, tmp_path, capsys, monkeypatch):
    """Files beside the report, which then has a section; without the file it has none."""
    for other in ("_distributions", "_panels", "_curves"):  # drawing them takes long
        monkeypatch.setattr(f"sciml.evaluation.report.{other}", lambda run: [])
    folder = shutil.copytree(run, tmp_path / "run")
    title = "<h2>Influence of training samples</h2>"
    assert title not in write_report(folder).read_text()
    path = f"ckpt_path={folder / 'checkpoints' / 'best.ckpt'}"
    done = command(path, "queries=[3,1]", "samples=20", "top=2", capsys=capsys)
    assert (done.code, done.err) == (0, "")
    record = json.loads((folder / "influence.json").read_text())
    assert [query["number"] for query in record["queries"]] == [3, 1]
    assert all(len(query["helped"]) <= 2 for query in record["queries"])
    assert "Read the order, not the size." in done.out.replace("\n", " ")
    assert "20 of 32 training samples, drawn with seed 0" in done.out
    width, height = Image.open(folder / "influence" / "queries.png").size
    assert width == 1920 and height > 600
    page = (folder / "report.html").read_text()
    part = page[page.index(title) : page.index("<h2>Data</h2>")]
    assert part.count("<img") == 1 and caption(record)[:40] in part
    for row in rows(record):
        assert all(cell in part and cell in done.out for cell in row)
    assert all(note.split("[")[0][:60] in part for note in notes(record))
    (folder / "influence" / "queries.png").unlink()
    assert title in write_report(folder).read_text()


def test_trajectories_noise_and_complex_weights(tmp_path):
    """A model of neuraloperator, trained by free runs of random length with noise."""
    x, time = np.arange(16) / 16, np.arange(6)[:, None] / 6
    phase = np.random.default_rng(0).random((10, 1, 1))
    np.save(tmp_path / "u.npy", np.exp(-time) * np.sin(2 * np.pi * (x - time - phase)))
    overrides = ("data=trajectories", f"path={tmp_path / 'u.npy'}", "dt=0.1", "data.ndim=1")
    overrides += ("data.boundary=periodic", "data.points=left", "data.window.horizon=2")
    overrides += ("task=rollout", "task/unroll=pushforward", "task.noise=0.01", "batch_size=8")
    overrides += ("model=neuralop_fno", "model.settings.n_modes=4")
    overrides += ("model.settings.hidden_channels=4",)
    folder = in_folder(tmp_path / "run", *overrides)
    first, again = (attribute(asked(folder, "queries=2")).record for _ in range(2))
    assert [q["scores"] for q in first["queries"]] == [q["scores"] for q in again["queries"]]
    run = opened(folder)
    assert any(p.is_complex() for p in run.task.parameters())
    for query in first["queries"]:  # the loss is that of the whole roll-out, without noise
        batch = run.dataset.source("test").__getitems__([query["number"]])
        loss = run.task.mean_loss(run.task(batch.input), batch.target)
        assert query["loss"] == pytest.approx(float(loss), rel=1e-5)
        assert query["field"] in ("u[+1]", "u[+2]")
    with pytest.raises(ValueError, match="double=true: the model has no float64"):
        attribute(asked(folder, "double=true"))


def test_weights_in_float64_stay_so(tmp_path, arrays, no_figure):
    folder = made(tmp_path / "run", *arrays, "trainer.precision=64-true")
    few = ("queries=1", "samples=8")
    record = attribute(asked(folder, *few)).record
    assert record["precision"] == "float64"
    again = attribute(asked(folder, *few, "double=true")).record
    assert again["queries"][0]["scores"] == record["queries"][0]["scores"]


def test_of_many_queries_the_first_are_shown(run, monkeypatch):
    one = attribute(asked(run, "queries=[1]", "samples=4"))
    monkeypatch.setattr("sciml.curvature.attribute.PANELS", 1)
    monkeypatch.setattr("sciml.evaluation.influence.PANELS", 1)
    two = attribute(asked(run, "queries=[1,0]", "samples=4"))
    assert [len(query["scores"]) for query in two.record["queries"]] == [4, 4]
    assert two.pictures["queries"] == one.pictures["queries"]
    assert "The first 1 of 2." in caption(two.record)
    assert "The first" not in caption(one.record).partition(".")[2]
    many = two.record | {"queries": 15 * two.record["queries"]}
    assert len([row for row in rows(many) if row[0]]) == 20
    assert any("The first 20 of 30" in note for note in notes(many))


def test_learning_from_the_equation(tmp_path, no_figure):
    """Training samples act by the residual of the equation, queries are errors."""
    overrides = ("task=physics", "task.labels=0", "data=darcy", "data.resolution=16")
    overrides += ("data.counts={train: 4, valid: 1, test: 2}", "data.num_workers=0", "batch_size=4")
    overrides += ("model.width=6", "model.modes=4", "model.depth=1", f"data_dir={tmp_path}")
    record = attribute(asked(in_folder(tmp_path / "run", *overrides), "queries=[1]")).record
    (query,) = record["queries"]
    assert query["loss"] == pytest.approx(query["error"], rel=1e-4)
    assert len(query["scores"]) == 4 and any(query["scores"])


def in_folder(path: Path, *overrides: str) -> Path:
    """A run with one epoch and without a report, of any model."""
    from sciml.run import run
    from sciml.runtime.run_folder import RunFolder
    from tests.helpers import compose

    folder, config = RunFolder(path), compose(["trainer.max_epochs=1", *overrides])
    folder.write_config(config, list(overrides))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("sciml.run.write_report", lambda folder: folder)
        run(config, folder)
    return path


@pytest.mark.parametrize("shape", [(24,), (16, 8), (8, 6, 4)], ids=["1d", "2d", "3d"])
def test_figures_in_every_dimension(shape):
    """Two queries with three and no samples that helped, the second with a constant truth."""
    names = tuple("xyz"[: len(shape)])
    evaluation = Evaluation(("p", "q"), ("Pa", "1"), ("a", "q"), ("1", "1"), names, {})
    a, u, v = np.random.default_rng(0).normal(size=(3, 2, 2, *shape))
    u[1] = 1.0
    spacing = np.ones(len(shape))
    queries = Fields(np.array([4, 0]), a, u, v, 0 * spacing, spacing)
    helped = np.random.default_rng(1).normal(size=(4, 2, *shape))
    png = query_panels(evaluation, queries, [1, 0], [([7, 31, 1024, 3], helped), ([], helped[:0])])
    assert Image.open(io.BytesIO(png)).size[0] == 1920


REFUSED = {
    "samples=1": "samples=1 must be a whole number, at least 2",
    "passes=0": "passes=0 must be a whole number, at least 1",
    "top=0": "top=0 must be a whole number, at least 1",
    "seed=null": "seed=None must be a whole number",
    "damping=0": "damping=0 must be a number of at least 1e-09",
    "damping=small": "damping=small must be a number of at least 1e-09",
    "double=1": "double=1 must be true or false",
    "queries=0": "queries=0 must be a whole number, at least 1, or different numbers",
    "queries=worst": "queries=worst must be a whole number",
    "queries=[]": r"queries=\[\] must be",
    "queries=[1,1]": r"queries=\[1, 1\] must be .* different numbers of test samples",
    "queries=[-1]": r"queries=\[-1\] must be",
    "queries=[0,4]": r"queries=\[0, 4\]: there are 4 test samples, numbered 0 to 3",
}


@pytest.mark.parametrize("override", REFUSED)
def test_refused_settings(override, run):
    with pytest.raises(ValueError, match=REFUSED[override]):
        attribute(asked(run, override))


def test_predictions_without_an_error_are_refused(run, monkeypatch):
    again = opened(run)
    monkeypatch.setattr(TrainedRun, "open", lambda *a, **k: again)
    source = again.dataset.source("test")
    zero = source.__getitems__([0, 1]).target.clone()
    zero[0] = 0.0
    with monkeypatch.context() as patched:
        patched.setattr(type(source), "__getitems__", lambda s, i: Batch(zero, zero, zero, zero))
        with pytest.raises(ValueError, match=r"test sample 0: its target is zero everywhere"):
            attribute(asked(run, "queries=[0,1]"))
    again.task.target_normalizer.std.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"test sample 0: its prediction is not finite.*queries="):
        attribute(asked(run))


def test_gradients_that_are_not_finite_are_refused(run, monkeypatch):
    finite = Influence.scores
    monkeypatch.setattr(Influence, "scores", lambda *a: finite(*a) * torch.nan)
    with pytest.raises(ValueError, match=r"best.ckpt: gradients of training samples are not fin"):
        attribute(asked(run, "samples=3", "queries=1"))


def test_few_blocks_and_failures_are_told(record):
    assert len(notes(record)) == 3
    told = notes({**record, "share": 0.2, "failures": {"blocks.0": 1}, "samples": 8})
    assert [note.split()[0] for note in told[3:]] == ["Samples", "Less", "The"]
    assert "blocks.0" in told[-1]


def test_a_mistyped_command_line(run, folder, capsys):
    """One line, and an exit code; `--help` lists the settings."""
    path = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    for arguments, code, text in (
        ([path, "quries=3"], 2, "quries: no such key in the configuration (did you mean queries?)"),
        ([], 1, "ckpt_path is not given and has no default"),
        ([path, "-m"], 1, "-m: a command explains one checkpoint"),
        (["ckpt_path=none.ckpt"], 1, "none.ckpt: no such checkpoint"),
        ([path, "top=many"], 1, "top=many must be a whole number, at least 1."),
    ):
        done = command(*arguments, capsys=capsys)
        assert done.code == code and done.err.startswith(f"error: {text}"), done
        assert done.err.count("\n") == 1
    done = command("--help", capsys=capsys)
    assert done.code == 0 and "queries: 3" in done.out
    assert list(folder.iterdir()) == []
