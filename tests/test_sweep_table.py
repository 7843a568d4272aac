"""The table over a sweep: every job is listed, statistics are right, nothing heavy is loaded."""

import csv
import io
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from sciml.evaluation.jobs import best_jobs, differing, groups, read_sweep
from sciml.evaluation.sweep import sweep_table, write_sweep_report
from tests.helpers import ROOT

ERRORS = {
    ("fno", "0"): 0.0182,
    ("fno", "1"): 0.0193,
    ("fno", "2"): 0.0177,
    ("unet", "0"): 0.0412,
    ("unet", "1"): 0.0398,
}
FAILURE = "ValueError: modes=16 needs at least 32 points per axis, got (16, 16)\nlower modes"


def add_job(folder: Path, overrides: list[str], metrics: dict | None) -> None:
    folder.mkdir(parents=True)
    (folder / "overrides.json").write_text(json.dumps(overrides))
    (folder / "train.log").write_text("")
    if metrics is not None:
        (folder / "metrics.json").write_text(json.dumps(metrics))


def completed(error: float, wall_s: float = 71.2) -> dict:
    figures = {"test/relative_l2": error, "test/relative_l2/pressure": error}
    return {"status": "completed", **figures, "wall_s": wall_s, "parameters": 1192801}


@pytest.fixture
def sweep(tmp_path) -> Path:
    """Two models, some seeds: five jobs completed, one failed, one was interrupted."""
    for number, ((model, seed), error) in enumerate(ERRORS.items()):
        overrides = [f"model={model}", f"seed={seed}", "data=darcy", "+trainer.max_epochs=2"]
        add_job(tmp_path / str(number), overrides, completed(error))
    unet = ["model=unet", "data=darcy", "+trainer.max_epochs=2"]
    add_job(tmp_path / "5", [*unet, "seed=2"], {"status": "failed", "error": FAILURE})
    add_job(tmp_path / "10", [*unet, "seed=3"], None)
    (tmp_path / "multirun.yaml").write_text("seed: 0\n")
    (tmp_path / "plots").mkdir()
    return tmp_path


def printed(folder: Path, width: int = 200) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(sweep_table(folder))
    return console.file.getvalue()


def test_jobs_are_read_by_number_and_by_state(sweep):
    jobs = read_sweep(sweep)
    assert [job.number for job in jobs] == ["0", "1", "2", "3", "4", "5", "10"]
    assert [job.status for job in jobs] == [*["completed"] * 5, "failed", "interrupted"]
    assert jobs[5].error == FAILURE.splitlines()[0]
    assert jobs[5].test_error is None
    assert jobs[0].overrides["trainer.max_epochs"] == "2"
    assert differing(jobs) == ["model", "seed"]
    assert [job.number for job in best_jobs(jobs).values()] == ["2"]


def test_statistics_over_seeds(sweep):
    """The interval is SciPy's; failed and interrupted jobs are no samples."""
    fno, unet = groups(read_sweep(sweep))
    errors = list(ERRORS.values())[:3]
    assert (fno.overrides, fno.n, fno.jobs) == ({"model": "fno"}, 3, 3)
    assert fno.mean == pytest.approx(np.mean(errors), rel=1e-14)
    assert fno.std == pytest.approx(np.std(errors, ddof=1), rel=1e-12)
    low, high = stats.t.interval(0.95, 2, fno.mean, stats.sem(errors))
    assert [fno.mean - fno.half_width, fno.mean + fno.half_width] == pytest.approx([low, high])
    assert (unet.overrides, unet.n, unet.jobs) == ({"model": "unet"}, 2, 4)


def test_one_seed_has_no_interval(tmp_path):
    add_job(tmp_path / "0", ["model=fno", "seed=0"], completed(0.02))
    add_job(tmp_path / "1", ["model=unet", "seed=1"], completed(math.inf))
    fno, unet = groups(read_sweep(tmp_path))
    assert (fno.n, fno.mean, fno.std, fno.half_width) == (1, 0.02, None, None)
    assert (unet.n, unet.mean, unet.std, unet.half_width) == (0, None, None, None)
    text = write_sweep_report(tmp_path).read_text()
    assert "nan" not in text
    assert '<td class="n">2.00</td><td class="n">–</td><td class="n">–</td>' in text


def test_without_different_seeds_there_are_no_groups(tmp_path):
    for number, model in enumerate(("fno", "unet")):
        add_job(tmp_path / str(number), [f"model={model}", "seed=0"], completed(0.02))
    assert groups(read_sweep(tmp_path)) == []
    assert "Over seeds" not in write_sweep_report(tmp_path).read_text()
    assert "error  " not in printed(tmp_path).splitlines()[2]  # no column for errors either


def test_the_printed_table_lists_every_job(sweep):
    lines = [line.split() for line in printed(sweep).splitlines() if line.strip()]
    by_number = {line[0]: line for line in lines}
    assert by_number["0"][1:5] == ["fno", "0", "completed", "1.82"]
    assert by_number["2"][:6] == ["2", "*", "fno", "2", "completed", "1.77"]
    assert "ValueError:" in by_number["5"]
    assert by_number["5"][-2:] == ["see", "5/train.log"]
    assert by_number["10"][1:4] == ["unet", "3", "interrupted"]
    assert ["mean", "fno", "n", "=", "3", "1.84", "±", "0.08"] in lines
    assert ["mean", "unet", "n", "=", "2", "of", "4", "4.05", "±", "0.10"] in lines


def test_a_narrow_terminal_cuts_no_word_off(sweep):
    text = "".join(printed(sweep, width=70).split())
    assert FAILURE.splitlines()[0].split("got")[1].replace(" ", "") in text


def test_the_files_hold_the_same_table(sweep):
    assert write_sweep_report(sweep) == sweep / "sweep.html"
    content = json.loads((sweep / "sweep.json").read_text())
    assert content["best"] == ["2"]
    assert [job["test_error"] for job in content["jobs"]] == [*ERRORS.values(), None, None]
    assert content["groups"][0]["mean"] == pytest.approx(0.0184)
    with (sweep / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == [*["fno"] * 3, *["unet"] * 4]
    assert rows[5]["error"] == FAILURE.splitlines()[0]
    assert rows[5]["log"] == "5/train.log"
    assert float(rows[1]["test_error"]) == 0.0193
    page = (sweep / "sweep.html").read_text()
    assert "7 jobs: 5 completed, 1 failed, 1 interrupted." in page
    assert "Best is job 2 (model=fno, seed=2) with 1.77 %" in page
    assert page.count('class="best"') == 2  # a job and a group
    assert '<td class="n">1.64 to 2.04</td>' in page
    assert sorted(path.name for path in sweep.glob("*.tmp")) == []


def test_reading_a_sweep_again_ignores_its_own_files(sweep):
    write_sweep_report(sweep)
    assert len(read_sweep(sweep)) == 7


def test_hostile_text_is_shown_and_not_interpreted(tmp_path):
    hostile = "<script>[bold red]=x</script>"
    add_job(tmp_path / "0", [f"model={hostile}"], {"status": "failed", "error": hostile})
    add_job(tmp_path / "1", ["model=fno"], completed(0.01))
    assert "[bold red]=x" in printed(tmp_path)
    page = write_sweep_report(tmp_path).read_text()
    assert "<script" not in page
    assert page.count("&lt;script&gt;[bold red]=x&lt;/script&gt;") == 2


@pytest.mark.parametrize(
    ("override", "parsed"),
    [
        ("model=fno", ("model", "fno")),
        ("+a.b=1e-3", ("a.b", "1e-3")),
        ("++a=[x=1,y]", ("a", "[x=1,y]")),
        ("~trainer.logger", ("trainer.logger", "removed")),
        ("name=", ("name", "")),
    ],
)
def test_overrides_are_taken_apart(tmp_path, override, parsed):
    add_job(tmp_path / "0", [override], None)
    assert dict(read_sweep(tmp_path)[0].overrides) == dict([parsed])


@pytest.mark.parametrize("named", [False, True], ids=["by the models", "by one job"])
def test_methods_that_nobody_named_are_told_apart(tmp_path, named):
    """FNO and U-Net do not have the same `curvature` unless it is given."""
    for number, method in enumerate(["kfac", "none", "newton_cg"]):
        overrides = [f"model={number}", *["curvature=newton_cg"] * (named and number == 2)]
        add_job(tmp_path / str(number), overrides, completed(0.01))
        choose(tmp_path / str(number), method)
    jobs = read_sweep(tmp_path)
    assert differing(jobs) == ["model", "curvature"]
    assert [job.overrides["curvature"] for job in jobs] == ["kfac", "none", "newton_cg"]
    text = printed(tmp_path)
    assert "curvature" in text and "kfac" in text
    (tmp_path / "1" / "choices.json").unlink()
    assert ("curvature" in differing(read_sweep(tmp_path))) == named


def test_one_method_for_all_is_no_column(tmp_path):
    for number in range(2):
        add_job(tmp_path / str(number), [f"model={number}"], completed(0.01))
        choose(tmp_path / str(number), "kfac")
    assert differing(read_sweep(tmp_path)) == ["model"]


def test_optimizers_that_nobody_named_are_told_apart_too(tmp_path):
    for number, optimizer in enumerate(["adamw", "muon_stencils"]):
        add_job(tmp_path / str(number), [f"model={number}"], completed(0.01))
        choose(tmp_path / str(number), "none", optimizer)
    assert differing(read_sweep(tmp_path)) == ["model", "optimizer"]


def test_each_data_set_has_a_best_job_and_a_best_group(tmp_path):
    """Errors on different data do not compare: that of Darcy flow is lower, whatever the model."""
    jobs = [(m, d, s) for m in ("fno", "unet") for d in ("burgers", "darcy") for s in ("0", "1")]
    errors = dict(zip(jobs, (0.5, 0.51, 0.02, 0.03, 0.4, 0.41, 0.05, 0.06), strict=True))
    for number, ((model, data, seed), error) in enumerate(errors.items()):
        overrides = [f"model={model}", f"data={data}", f"seed={seed}"]
        add_job(tmp_path / str(number), overrides, completed(error))
    found = best_jobs(read_sweep(tmp_path))
    assert {data: job.number for data, job in found.items()} == {
        "data=burgers": "4",
        "data=darcy": "2",
    }
    order = [tuple(group.overrides.values()) for group in groups(read_sweep(tmp_path))]
    assert order == [("unet", "burgers"), ("fno", "burgers"), ("fno", "darcy"), ("unet", "darcy")]
    text = printed(tmp_path)
    assert "4 *" in text and "2 *" in text and text.count("*") == 2
    page = write_sweep_report(tmp_path).read_text()
    assert "Best for data=burgers is job 4 (model=unet, data=burgers, seed=0) with 40.0 %" in page
    assert "Best for data=darcy is job 2 " in page
    assert page.count('class="best"') == 4  # a job and a group for each
    assert json.loads((tmp_path / "sweep.json").read_text())["best"] == ["4", "2"]


def choose(folder: Path, method: str, optimizer: str = "adamw") -> None:
    choices = {"curvature": method, "optimizer": optimizer, "data": "darcy"}
    (folder / "choices.json").write_text(json.dumps(choices))


def test_a_job_that_never_wrote_anything_is_listed(tmp_path):
    (tmp_path / "0").mkdir()
    (job,) = read_sweep(tmp_path)
    assert (job.status, job.log, dict(job.overrides)) == ("interrupted", None, {})
    assert "see 0/" in printed(tmp_path)
    assert "No job has a test error." in write_sweep_report(tmp_path).read_text()


def test_an_infinite_error_is_never_the_best(tmp_path):
    for number, error in enumerate((math.inf, 0.5)):
        add_job(tmp_path / str(number), [f"lr={number}"], completed(error))
    assert [job.number for job in best_jobs(read_sweep(tmp_path)).values()] == ["1"]
    assert "∞" in printed(tmp_path)
    write_sweep_report(tmp_path)
    assert json.loads((tmp_path / "sweep.json").read_text())["jobs"][0]["test_error"] is None


def test_a_job_tested_on_another_grid_only_is_ranked_by_that(tmp_path):
    figures = {"status": "completed", "test@32x32/relative_l2": 0.03, "test@64x64/relative_l2": 0.1}
    add_job(tmp_path / "0", ["seed=0"], figures)
    assert read_sweep(tmp_path)[0].test_error == 0.03


def test_a_folder_without_jobs(tmp_path):
    with pytest.raises(ValueError, match="holds no job folders"):
        read_sweep(tmp_path)


def test_the_table_loads_nothing_heavy():
    """Also through the package: the process that starts the jobs imports this at its start."""
    code = (
        "import sys, sciml.evaluation.sweep\n"
        "from sciml.evaluation import sweep_table, write_sweep_report\n"
        "print([m for m in ('torch', 'lightning', 'matplotlib', 'hydra') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_the_package_names_what_it_holds():
    import sciml.evaluation as package

    assert all(getattr(package, name).__name__ == name for name in package.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing
