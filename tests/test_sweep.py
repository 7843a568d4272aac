"""`python train.py -m ...`: one table at the end, failed jobs are named, nothing is overwritten."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers import TINY, Outcome, main, save_pairs, smooth_pairs, train

SWEEP = "hydra.sweep.dir=sweep"


@pytest.fixture(autouse=True)
def no_report(monkeypatch):
    monkeypatch.setattr("sciml.run.write_report", lambda folder: folder)


def job(folder: Path, number: int) -> dict:
    return json.loads((folder / "sweep" / str(number) / "metrics.json").read_text())


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def fine(tmp_path_factory) -> list[str]:
    """Few samples on a grid that holds the modes of the models as they are configured."""
    folder = tmp_path_factory.mktemp("fine")
    split = "data.split={train: 0.5, valid: 0.25, test: 0.25}"
    return [*save_pairs(folder, *smooth_pairs(8, (24, 24))), split, "trainer.max_epochs=1"]


def check_four_jobs(folder: Path, outcome: Outcome) -> None:
    """Two models and two seeds: four rows, two means, the files beside the jobs."""
    assert (outcome.code, outcome.err) == (0, "")
    jobs = [job(folder, number) for number in range(4)]
    assert [figures["status"] for figures in jobs] == ["completed"] * 4
    assert len({figures["test/relative_l2"] for figures in jobs}) == 4
    table = outcome.out[outcome.out.index("Sweep ") :]
    for number in range(4):
        assert re.search(rf"^ *{number}( \*)? .*completed", table, re.MULTILINE)
    assert table.count("n = 2") == 2
    assert "fno" in table and "neuralop_tfno" in table
    assert "kfac" in table  # FNO's own choice: a comparison of models is one of methods, too
    one = json.loads((folder / "sweep" / "1" / "run.json").read_text())["command"]
    assert one.startswith("python train.py model=fno seed=1 ") and " -m " not in one
    best = min(range(4), key=lambda number: jobs[number]["test/relative_l2"])
    assert f"{best} *" in table
    assert (folder / "sweep" / "sweep.html").is_file()
    assert "sweep report: " in table


def test_a_sweep_over_models_and_seeds_ends_with_one_table(folder, capsys, fine):
    outcome = main("-m", "model=fno,neuralop_tfno", "seed=0,1", *fine, SWEEP, capsys=capsys)
    check_four_jobs(folder, outcome)


@pytest.mark.slow
def test_the_same_in_a_process_of_its_own(tmp_path, fine):
    outcome = train("-m", "model=fno,neuralop_tfno", "seed=0,1", *fine, SWEEP, cwd=tmp_path)
    check_four_jobs(tmp_path, outcome)


def test_a_failed_job_is_listed_and_the_others_complete(folder, capsys, arrays):
    command = ("-m", "model.modes=3,99,4", *arrays, *TINY[:1], *TINY[2:], SWEEP)
    outcome = main(*command, capsys=capsys)
    assert outcome.code == 1
    assert [job(folder, number)["status"] for number in range(3)] == [
        "completed",
        "failed",
        "completed",
    ]
    reason = "FNO: modes=(99, 99) needs at least (198, 198) points"
    assert outcome.err.startswith(f"job 1 failed: {reason}")
    assert "Traceback" not in outcome.err + outcome.out
    assert len(outcome.err.splitlines()) == 1
    assert reason in job(folder, 1)["error"]
    log = (folder / "sweep" / "1" / "train.log").read_text()
    assert "Traceback" in log and reason in log
    table = outcome.out[outcome.out.index("Sweep ") :]
    assert table.count("completed") == 2
    assert "failed" in table
    assert "1/train.log" in table.replace("\n", "").replace(" ", "")
    page = (folder / "sweep" / "sweep.html").read_text()
    assert "modes=(99, 99)" in page


def test_a_sweep_of_failures_has_a_table_too(folder, capsys, arrays):
    outcome = main("-m", "model.modes=77,99", *arrays, SWEEP, capsys=capsys)
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 2
    assert outcome.out.count("failed") >= 2


def test_a_second_sweep_into_the_same_folder_overwrites_nothing(folder, capsys, arrays):
    command = ("-m", "seed=0,1", *arrays, *TINY, "trainer.max_epochs=1", SWEEP)
    assert main(*command, capsys=capsys).code == 0
    before = {number: content(folder / "sweep" / number) for number in "01"}
    outcome = main(*command, capsys=capsys)
    assert outcome.code == 1
    first, second, last = outcome.err.splitlines()
    assert re.match(
        r"job 0 failed: \S+sweep/0 already holds a run \(config.yaml, metrics.json\)", first
    )
    assert re.match(r"job 1 failed: \S+sweep/1 already holds a run", second)
    assert last.startswith("error: ")
    assert {number: content(folder / "sweep" / number) for number in "01"} == before


def test_two_sweeps_have_two_folders(folder, capsys, arrays):
    command = ("-m", "seed=0,1", *arrays, "model.modes=99")
    for _ in range(2):
        assert main(*command, capsys=capsys).code == 1
    assert len(list((folder / "runs" / "sweeps").glob("*/*"))) == 2


def test_a_mistyped_choice_stops_the_sweep_before_its_first_job(folder, capsys, arrays):
    outcome = main("-m", "model=fno,fnoo", *arrays, *TINY, SWEEP, capsys=capsys)
    assert outcome.code == 2
    assert "model=fnoo: no such model" in outcome.err
    assert "Traceback" not in outcome.err
