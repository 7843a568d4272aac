"""The report of a run: complete, alone, escaped, also for runs that failed or only evaluated."""

import base64
import csv
import io
import json
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.schema import Field, Metadata
from sciml.evaluation import figures, panels, report
from sciml.evaluation.field_errors import SPLIT, FieldErrors
from sciml.evaluation.page import column, duration, number
from sciml.evaluation.report import write_report
from sciml.evaluation.result import Evaluation, Result, choose_samples
from sciml.evaluation.run_folder import read_curves
from sciml.evaluation.tables import MEASURES
from solvers.grid import Axis, Grid

PRESSURE = Metadata(
    "darcy",
    (Field("permeability"),),
    (Field("pressure", "Pa"),),
    Grid.box((16, 16)),
    provenance={"recipe": "FNO paper, appendix A.3.1", "regenerated": "yes", "solver": "multigrid"},
)


def smooth(shape: tuple[int, ...], count: int, generator: torch.Generator, decay: float = 3.0):
    """Random fields [count, *shape] with |u_hat| ~ (1 + |k|)^-decay and unit variance."""
    white = torch.randn(count, *shape, generator=generator, dtype=torch.float64)
    dims = tuple(range(1, 1 + len(shape)))
    axes = [n * torch.fft.fftfreq(n, dtype=torch.float64) for n in shape]
    k = sum(m.square() for m in torch.meshgrid(*axes, indexing="ij")).sqrt()
    u = torch.fft.ifftn(torch.fft.fftn(white, dim=dims) * (1 + k) ** -decay, dim=dims).real
    return u / u.std(dim=dims, keepdim=True)


def evaluate(metadata: Metadata, shapes: list[tuple[int, ...]], count: int):
    """An evaluation of a model that is wrong by a smooth field of random size; and its figures."""
    generator = torch.Generator().manual_seed(0)
    results, figures = {}, {}
    for order, shape in enumerate(shapes):
        grid = metadata.grid.resized(shape)
        sizes = (count, metadata.in_channels + 2 * metadata.out_channels)
        fields = smooth(shape, sizes[0] * sizes[1], generator).reshape(*sizes, *shape).float()
        source, target, error = fields.split(
            [metadata.in_channels, metadata.out_channels, metadata.out_channels], dim=1
        )
        amount = 0.02 * (1 + order) * torch.rand(count, 1, generator=generator).exp()
        prediction = target + amount.reshape(-1, *[1] * (1 + len(shape))) * error
        prefix = "test" if order == 0 else f"test@{shape[0]}"
        empty = Evaluation.from_metadata(metadata, {})
        collected = FieldErrors(empty.fields, grid)
        collected.update(prediction, target, torch.arange(count))
        arrays = collected.compute()
        rows = choose_samples(arrays)
        results["x".join(map(str, shape))] = Result.from_errors(
            arrays,
            prefix,
            grid,
            input=source[rows],
            target=target[rows],
            prediction=prediction[rows],
        )
        figures |= collected.summary(prefix)
    return Evaluation.from_metadata(metadata, results), figures


def make_run(
    folder: Path, metadata: Metadata = PRESSURE, shapes=((16, 16),), count: int = 12
) -> Path:
    """A folder with all files that a finished run writes."""
    folder.mkdir(parents=True, exist_ok=True)
    evaluation, figures = evaluate(metadata, list(shapes), count)
    evaluation.save(folder / "evaluation.npz")
    metrics = {
        "status": "completed",
        **figures,
        "wall_s": 741.3,
        "train_s": 702.9,
        "data_s": 8.25,
        "peak_rss_mb": 1312.4,
        "parameters": 1192801,
        "best_epoch": 87,
    }
    about = {
        "name": f"fno-{metadata.name}",
        "command": f"python train.py model=fno data={metadata.name} seed=3",
        "seed": 3,
        "versions": {"torch": "2.13.0", "lightning": "2.6.6", "numpy": "2.4.6", "h5py": "3.16.0"},
        "machine": {"processor": "AMD EPYC 7B13", "cores": 2, "threads": 2, "device": "cpu"},
        "git": {"commit": "0123abcd" * 5, "dirty": True},
        "data": {
            "name": metadata.name,
            "path": f"data/{metadata.name}",
            "hash": "sha256:5f0c9a",
            "provenance": dict(metadata.provenance),
            "splits": {"test": count, "train": 1000, "valid": 100},
            "description": metadata.describe(),
        },
        "model": {"name": "FNO", "parameters": 1192801},
        "started": "2026-11-22T02:40:11+00:00",
        "checkpoint": "checkpoints/best.ckpt",
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "config.yaml").write_text("model:\n  _target_: sciml.models.FNO\n  width: 32\n")
    write_curves(folder / "metrics.csv")
    return folder


def write_curves(path: Path, epochs: int = 100) -> None:
    """Rows as Lightning's CSVLogger interleaves them: validation, training, learning rate."""
    names = ["epoch", "lr-AdamW", "step", "train/loss", "val/loss", "val/relative_l2"]
    noise = np.random.default_rng(0).normal(size=(epochs, 2))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for e in range(epochs):
            step = 32 * (e + 1) - 1
            decay = np.exp(-e / 22)
            val = 0.02 + 0.4 * decay * np.exp(0.05 * noise[e, 0])
            train = 0.004 + 0.5 * decay * np.exp(0.03 * noise[e, 1])
            writer.writerow({"lr-AdamW": 1e-3 * decay, "step": step})
            writer.writerow(
                {"epoch": e, "step": step, "val/loss": val, "val/relative_l2": 0.9 * val}
            )
            writer.writerow({"epoch": e, "step": step, "train/loss": train})


class Page(HTMLParser):
    """Tags with their attributes, text, and rows of tables."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.texts, self.rows = [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])

    def handle_data(self, data):
        self.texts.append(data)
        inside = self.tags[-1][0] if self.tags else None
        if inside in ("td", "th") and data.strip() and self.rows:
            self.rows[-1].append(data.strip())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def pictures(self) -> list[bytes]:
        start = "data:image/png;base64,"
        sources = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        assert all(source.startswith(start) for source in sources)
        return [base64.b64decode(source.removeprefix(start)) for source in sources]


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("runs") / "darcy", shapes=((16, 16), (24, 24)))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run) -> Page:
    return Page(run / "report.html")


@pytest.fixture
def no_pictures(monkeypatch):
    """Drawing takes longer than all else."""
    monkeypatch.setattr(report, "_distributions", lambda evaluation: [])
    monkeypatch.setattr(report, "_panels", lambda evaluation: [])
    monkeypatch.setattr(report, "_curves", lambda run: [])


def rewrite(path: Path, change: dict) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


# What the page says


def test_the_headline(run, page):
    metrics = json.loads((run / "metrics.json").read_text())
    percent = f"{100 * metrics['test/relative_l2']:.2f} %"
    assert (
        "FNO, trained on 1,000 samples of darcy, regenerated (permeability → pressure on 16 × 16). "
        f"The mean relative L2 error on 12 test samples is {percent}."
    ) in page.text


def test_the_table_holds_the_statistics_of_the_samples(run, page):
    evaluation = Evaluation.load(run / "evaluation.npz")
    for shape in ((16, 16), (24, 24)):
        errors = 100 * np.sort(evaluation.results["x".join(map(str, shape))].errors[:, 0])
        figures = [errors.mean(), errors[5], errors[11], errors[11]]
        row = [" × ".join(map(str, shape)), "pressure", "12", *(f"{v:.2f}" for v in figures)]
        assert row in page.rows


def test_other_measures_stand_beside_their_names(run, page):
    metrics = json.loads((run / "metrics.json").read_text())
    header = next(row for row in page.rows if "VRMSE" in row)
    rows = [row for row in page.rows if len(row) == len(header) and row[1] == "pressure"]
    for prefix, row in zip(("test", "test@24"), rows, strict=True):
        shown = dict(zip(header, row, strict=True))
        for label, key in (("Relative H1", "relative_h1"), ("Largest error", "max_error")):
            expected = metrics[f"{prefix}/{key}/pressure"]
            assert float(shown[label]) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(
    "text",
    [
        "python train.py model=fno data=darcy seed=3",
        "Seed 3",
        "0123abcd" * 5 + ", with uncommitted changes",
        "Hash sha256:5f0c9a",
        "Regenerated yes",
        "Samples 1,000 train, 100 valid, 12 test",
        "Recipe FNO paper, appendix A.3.1",
        "torch 2.13.0",
        "_target_: sciml.models.FNO",
        "Training 11 min 43 s",
        "Peak memory 1.31 GB",
        "Parameters 1,192,801",
        "Processor AMD EPYC 7B13",
        "Cores, threads 2, 2",
        "Best epoch 87, chosen on validation data",
        "Checkpoint checkpoints/best.ckpt",
        "Started 2026-11-22 02:40:11+00:00",
    ],
)
def test_the_page_says_how_to_repeat_the_run(page, text):
    assert text in page.text


def test_every_measure_that_is_shown_is_defined(page):
    for key, (label, definition) in MEASURES.items():
        shown = key not in SPLIT  # which finer grids alone have
        assert (page.text.count(label) >= 2) == shown
        assert (definition in page.text) == shown


# A page that stands alone


def test_the_page_loads_nothing_and_runs_nothing(run, page):
    assert {"script", "link", "iframe", "object", "form"}.isdisjoint(t for t, _ in page.tags)
    loads = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("src", "href")]
    assert all(value.startswith("data:") for value in loads)
    assert not any(key.startswith("on") for _, attrs in page.tags for key in attrs)
    assert "url(" not in (run / "report.html").read_text()
    policies = [a["content"] for t, a in page.tags if a.get("http-equiv")]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_the_pictures_are_sharp_small_and_described(run, page):
    pictures = page.pictures()
    assert len(pictures) == 6  # distribution, spectrum, two sets of samples, two curves
    assert all(attrs["alt"] for tag, attrs in page.tags if tag == "img")
    for picture in pictures:
        image = Image.open(io.BytesIO(picture))
        image.verify()
        assert image.width in (940, 1920)  # twice the pixels that the page gives them
        assert len(picture) < 160_000
    assert (run / "report.html").stat().st_size < 2_000_000


def test_nothing_is_left_beside_the_report_and_a_second_one_replaces_it(run, no_pictures):
    before = sorted(path.name for path in run.iterdir())
    assert write_report(run) == run / "report.html"
    assert sorted(path.name for path in run.iterdir()) == before


def test_what_failed_in_a_second_order_run_is_told(tmp_path, no_pictures):
    folder = make_run(tmp_path / "run")
    failures = {"lifting": 2, "gate": 1200, "skip": 12, "projection": 1}
    rewrite(folder / "run.json", {"curvature": {"summary": "KFAC: all", "failures": failures}})
    write_report(folder)
    text = Page(folder / "report.html").text
    assert "gate (1,200), skip (12), lifting (2) and 1 more" in text
    rewrite(folder / "run.json", {"curvature": {"summary": "KFAC: all", "failures": {}}})
    write_report(folder)
    assert "Failed in it" not in Page(folder / "report.html").text


def test_hostile_text_is_shown_and_not_run(tmp_path, no_pictures):
    hostile = "<script>alert('&')</script>"
    folder = make_run(tmp_path / "run")
    about = json.loads((folder / "run.json").read_text())
    for part in (about, about["data"], about["model"], about["machine"]):
        for key in part:
            part[key] = hostile if isinstance(part[key], str) else part[key]
    about["versions"] |= {hostile: hostile}
    about["data"]["provenance"] |= {hostile: hostile}
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "config.yaml").write_text(f"name: {hostile}\n")
    rewrite(folder / "metrics.json", {"status": hostile, "error": hostile})
    evaluation = Evaluation.load(folder / "evaluation.npz")
    replace(evaluation, fields=(hostile,)).save(folder / "evaluation.npz")
    text = write_report(folder).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;") > 10
    assert Page(folder / "report.html").text.count(hostile) > 10


# Runs that are not complete


def test_a_run_that_only_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_panels", lambda evaluation: [])
    folder = make_run(tmp_path / "run")
    (folder / "metrics.csv").unlink()
    page = Page(write_report(folder))
    assert "FNO, from a checkpoint, not trained in this run, on darcy" in page.text
    assert "Loss by epoch." not in page.text
    assert len(page.pictures()) == 2


def test_a_run_evaluated_on_another_grid_only(tmp_path, no_pictures):
    folder = make_run(tmp_path / "run")
    metrics = json.loads((folder / "metrics.json").read_text())
    renamed = {key.replace("test/", "test@16x16/"): value for key, value in metrics.items()}
    (folder / "metrics.json").write_text(json.dumps(renamed))
    page = Page(write_report(folder))
    assert "The mean relative L2 error on 12 test samples is" in page.text
    assert "test error at 16 × 16" in page.text


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_run_that_ended_early(tmp_path, status):
    folder = tmp_path / "broken"
    folder.mkdir()
    error = "ValueError: modes=16 needs at least 32 points per axis, got (16, 16)"
    (folder / "metrics.json").write_text(json.dumps({"status": status, "error": error}))
    page = Page(write_report(folder))
    assert error in page.text
    assert "The run ended early, with the error below." in page.text
    assert "broken" in page.text
    assert page.pictures() == []


def test_a_folder_that_is_not_a_run(tmp_path):
    with pytest.raises(ValueError, match="holds no metrics.json: it is not the folder of a run"):
        write_report(tmp_path)


def test_zero_and_infinite_figures_are_explained(tmp_path, no_pictures):
    folder = make_run(tmp_path / "run")
    evaluation = Evaluation.load(folder / "evaluation.npz")
    result = evaluation.results["16x16"]
    result.errors[0], result.errors[1] = np.nan, np.inf
    evaluation.save(folder / "evaluation.npz")
    change = {"test/relative_l2": math.inf, "test/undefined": 1.0, "test/diverged": 1.0}
    rewrite(folder / "metrics.json", change)
    page = Page(write_report(folder))
    assert "nan" not in page.text.lower()
    row = next(row for row in page.rows if row[:2] == ["16 × 16", "pressure"])
    assert row[2] == "11"
    assert [value == "∞" for value in row[3:]] == [True, False, True, True]
    assert "in 1 case(s) the truth is zero everywhere" in page.text
    assert "the prediction of 1 sample(s) is not finite" in page.text


# Figures in one, two and three dimensions


def flow(shape: tuple[int, ...]) -> Metadata:
    """A scalar and a vector, from a state to the next."""
    fields = (Field("tracer"), Field("velocity", "m/s", len(shape)))
    axes = zip("xyz", shape, strict=False)
    grid = Grid(tuple(Axis(n, s, 0, s, ("periodic", "periodic"), "left") for n, s in axes))
    return Metadata("flow", fields, fields, grid, dt=0.1)


@pytest.mark.parametrize("shape", [(24,), (16, 8), (8, 6, 4)])
def test_samples_are_drawn_in_any_dimension(shape):
    evaluation, _ = evaluate(flow(shape), [shape], 5)
    (result,) = evaluation.results.values()
    Image.open(io.BytesIO(panels.sample_panels(evaluation, result, 1))).verify()
    if len(shape) == 3:
        Image.open(io.BytesIO(panels.midplanes(evaluation, result, 0))).verify()


def test_a_sample_is_placed_where_its_points_lie():
    evaluation, _ = evaluate(flow((16, 8)), [(16, 8)], 5)
    sample = panels.Sample(evaluation, evaluation.results["16x8"], 1, 2)
    assert sample.sides(0) == (-0.5, 15.5)
    assert sample.points(1).tolist() == list(range(8))
    assert sample.label == "velocity_x (m/s)"
    assert sample.input_label == "velocity_x (m/s)"  # the input of the same name
    worst = evaluation.results["16x8"].errors.mean(axis=1).argmax()
    assert sample.title == f"Worst: sample {worst}"
    plane, axes = sample.plane(None)
    assert axes == [0, 1]
    np.testing.assert_array_equal(plane[1], sample.truth)


def test_a_plane_through_the_middle():
    evaluation, _ = evaluate(flow((8, 6, 4)), [(8, 6, 4)], 5)
    sample = panels.Sample(evaluation, evaluation.results["8x6x4"], 0, 0)
    (_, truth, *_), axes = sample.plane(1)
    assert axes == [0, 2]
    np.testing.assert_array_equal(truth, sample.truth[:, 3, :])
    assert sample.middle(1) == 3


@pytest.mark.parametrize("shape", [(24,), (16, 8)])
def test_a_diverged_or_constant_sample_is_drawn(shape):
    evaluation, _ = evaluate(flow(shape), [shape], 5)
    (result,) = evaluation.results.values()
    result.prediction[2] = np.nan
    result.target[1] = 0.0
    Image.open(io.BytesIO(panels.sample_panels(evaluation, result, 0))).verify()
    assert panels.Sample(evaluation, result, 0, 2).percent == "not finite"
    assert panels.Sample(evaluation, result, 0, 1).percent == "undefined"


def test_curves_without_a_logarithm_and_without_a_best_epoch():
    epoch = np.arange(1, 4)
    curves = {"train": (epoch, np.array([0.5, -0.2, -1.0]))}
    Image.open(io.BytesIO(figures.learning_curve("loss", curves, None))).verify()
    nothing = {"8": np.array([np.nan, np.nan]), "16": np.array([np.inf, 0.1])}
    Image.open(io.BytesIO(figures.error_distribution(nothing))).verify()


def test_many_fields_are_drawn_as_their_mean(tmp_path, monkeypatch):
    fields = tuple(Field(f"species_{i}") for i in range(4))
    metadata = Metadata("reaction", fields, fields, Grid.box((8, 8)))
    evaluation, _ = evaluate(metadata, [(8, 8), (12, 12)], 4)
    drawn = {}
    monkeypatch.setattr(figures, "error_distribution", lambda s: drawn.update(errors=s) or b"")
    monkeypatch.setattr(figures, "error_spectrum", lambda s: drawn.update(energies=s) or b"")
    first, _ = report._distributions(evaluation)
    assert list(drawn["errors"]) == ["8 × 8", "12 × 12"]
    expected = evaluation.results["8x8"].errors.mean(axis=1)
    np.testing.assert_allclose(drawn["errors"]["8 × 8"], expected)
    assert len(drawn["energies"]) == len(figures.COLOURS)
    assert "mean over fields" in first["caption"]


# The files of a run


def test_an_evaluation_survives_the_disk(tmp_path):
    evaluation, _ = evaluate(flow((8, 6)), [(8, 6), (16, 12)], 5)
    evaluation.save(tmp_path / "evaluation.npz")
    read = Evaluation.load(tmp_path / "evaluation.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.npz"]
    assert read.fields == ("tracer", "velocity_x", "velocity_y")
    assert read.units == ("1", "m/s", "m/s")
    assert read.axes == ("x", "y")
    assert list(read.results) == ["8x6", "16x12"]
    for resolution, result in evaluation.results.items():
        for name, value in vars(result).items():
            np.testing.assert_array_equal(getattr(read.results[resolution], name), value)


def test_an_evaluation_holds_no_objects(tmp_path):
    evaluation, _ = evaluate(PRESSURE, [(8, 8)], 3)
    evaluation.save(tmp_path / "evaluation.npz")
    with np.load(tmp_path / "evaluation.npz", allow_pickle=False) as arrays:
        assert {arrays[name].dtype.kind for name in arrays.files} <= {"f", "i", "U"}
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="it was not written by Evaluation.save"):
        Evaluation.load(tmp_path / "other.npz")


def test_curves_are_read_from_interleaved_rows(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(
        "epoch,step,lr-AdamW,train/loss_step,train/loss_epoch,val/loss,val/relative_l2\n"
        ",9,0.001,,,,\n"
        "0,9,,4.0,,,\n"
        "0,19,,2.0,,,\n"
        "0,19,,,,0.7,0.6\n"
        "0,19,,,3.5,,\n"
        "1,29,,1.0,,,\n"
        "1,39,,,,0.5,0.4\n"
        "1,39,,,1.5,,\n"
    )
    curves = read_curves(path)
    assert list(curves) == ["loss", "relative_l2"]
    assert [value.tolist() for value in curves["loss"]["train"]] == [[1, 2], [3.5, 1.5]]
    assert [value.tolist() for value in curves["loss"]["val"]] == [[1, 2], [0.7, 0.5]]
    path.write_text("epoch,step,train/loss_step\n0,9,4.0\n0,19,2.0\n")
    assert [value.tolist() for value in read_curves(path)["loss"]["train"]] == [[1], [3.0]]
    assert read_curves(tmp_path / "none.csv") == {}


# Numbers as text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0182345, "0.0182"),
        (1.8, "1.80"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (1.234e-9, "1.23×10⁻⁹"),
        (6.02e23, "6.02×10²³"),
        (0, "0"),
        (math.inf, "∞"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_numbers_read_well(value, text):
    assert number(value) == text


def test_a_column_shares_its_decimals():
    assert column([0.5, 12.3456, None, math.inf]) == ["0.500", "12.346", "–", "∞"]
    assert column([120.0, 4567.8]) == ["120", "4,568"]
    assert column([1e-9, 1.0]) == ["1.00×10⁻⁹", "1.00"]
    assert column([None, math.nan]) == ["–", "–"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.84, "0.84 s"), (5.0, "5.0 s"), (42, "42 s"), (725, "12 min 5 s"), (11220, "3 h 7 min")],
)
def test_durations_read_well(seconds, text):
    assert duration(seconds) == text
