"""Clients that fail: tried again, then left out, and never counted twice."""

import contextlib
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from datasets.dataset import Generated
from datasets.stream import AsDrawn, Faults, Inproc, Local
from datasets.stream.intake import Intake, StudyFailed
from sciml.run import _dataset
from tests.helpers import compose, equal, main, weights
from tests.streams import COUNTS, PLATE, arrivals, online, study
from tests.test_stream_resume import shared_memory, train  # noqa: F401

KINDS = {
    "raises": "RuntimeError: a fault on purpose",
    "nan": "frame 1 holds nan, at most 1e",
    "huge": r"frame 1 holds 1e\+30, at most 1e\+10",
    "wrong_shape": r"frame 1 is torch.float32 \(1, 8, 7\), expected float32 \(1, 8, 8\)",
    "too_few": "gave 1 frames and ended, expected 7",
    "too_many": "gave more than the 7 frames",
}


def taken(made, engine, **settings) -> tuple[list, Intake]:
    intake, found = Intake(made, engine, AsDrawn(), **settings), []
    with contextlib.closing(engine):
        intake.start()
        while (arrival := intake.next()) is not None:
            found.append((arrival.frame.simulation, arrival.frame.number))
            arrival.frame.release()
    return found, intake


SLOW = pytest.mark.slow
WAYS = [(kind, Inproc) for kind in KINDS] + [("nan", lambda: Local(2, 4))]
WAYS += [pytest.param(kind, lambda: Local(2, 4), marks=SLOW) for kind in KINDS if kind != "nan"]


@pytest.mark.parametrize("kind, make", WAYS)
def test_a_simulation_that_fails_is_left_out_and_the_others_arrive(kind, make):
    made = study(faults=Faults(**{kind: [1, 5]}))
    found, intake = taken(made, make(), tolerate=0.2)
    before = 7 if kind == "too_many" else 1
    expected = {(i, k) for i in range(10) for k in range(before if i in (1, 5) else 7)}
    assert len(found) == len(set(found)) and set(found) == expected
    assert set(intake.quarantined) == {1, 5} and intake.restarts == 6
    with pytest.raises(AssertionError, match=KINDS[kind]):
        raise AssertionError(intake.quarantined[5]["reason"])
    assert set(intake.quarantined[5]["parameters"]) == set(made.make()[1].parameters)


@pytest.mark.parametrize("kind", ["raises", pytest.param("nan", marks=SLOW)])
def test_a_fault_that_passes_changes_nothing(kind):
    faults = Faults(**{kind: [1, 5]}, attempts=2)
    for engine in (Inproc(), Local(2, 4)):
        assert arrivals(study(faults=faults), engine) == arrivals(study())


def test_without_another_attempt_it_is_left_out():
    """The control."""
    _, intake = taken(study(faults=Faults(nan=[1], attempts=1)), Inproc(), retries=0, tolerate=0.2)
    assert set(intake.quarantined) == {1}


@pytest.mark.parametrize("ordered", [True, pytest.param(False, marks=SLOW)])
def test_a_client_that_hangs_is_killed_tried_again_and_left_out(ordered):
    made, engine = study(faults=Faults(hang=[2])), Local(1, 4, patience=0.5)
    found, intake = taken(made, engine, ordered=ordered, retries=1, tolerate=0.2)
    assert set(found) == {(i, k) for i in range(10) for k in range(1 if i == 2 else 7)}
    assert len(found) == len(set(found))
    assert "gave no frame for 0.5 s" in intake.quarantined[2]["reason"]


@pytest.mark.slow
def test_a_slow_client_is_waited_for():
    faults = Faults(slow=[1, 2], delay=0.05)
    assert arrivals(study(faults=faults), Local(1, 4, patience=5)) == arrivals(study())


def test_too_many_failures_end_the_run_with_numbers_parameters_and_reasons():
    with pytest.raises(
        StudyFailed,
        match=r"2 of 10 simulations failed 3 times each: simulation 1 \(.*left 0\.87.*\) at "
        r"frame 1: RuntimeError: a fault on purpose; simulation 5 .* raise online.tolerate",
    ):
        taken(study(faults=Faults(raises=[1, 5])), Inproc(), tolerate=0.1)
    with pytest.raises(StudyFailed, match="before the first frame arrived: simulation 0"):
        made = study(lanes=1)
        taken(made.__class__(**{**vars(made), "largest": 1e-9}), Inproc(), tolerate=1.0)


def test_the_report_of_a_run_names_what_was_left_out(folder, capsys):
    command = [*PLATE, COUNTS, "model=fully_connected", "model.hidden=[16]", "batch_size=4"]
    command += ["online=inproc", "online/faults=raises", "online.tolerate=0.2"]
    done = main(
        *command,
        "online.buffer.capacity=30",
        "hydra.run.dir=run",
        "trainer.max_epochs=2",
        capsys=capsys,
    )
    assert done.code == 0, done.err
    assert "left out 2" in done.out
    record = json.loads(Path("run/stream.json").read_text())
    assert [one["simulation"] for one in record["left_out"]] == [1, 5]
    page = Path("run/report.html").read_text()
    assert (
        "a fault on purpose" in page
        and f"{record['left_out'][0]['parameters']['left']:.4g}" in page
    )
    stopped = main(*command, "online.tolerate=0", "hydra.run.dir=stopped", capsys=capsys)
    assert stopped.code == 1 and "RuntimeError: a fault on purpose" in stopped.err


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["online.watermark=500"], "watermark=500: only 60 samples will ever arrive; lower it"),
        (["online.watermark=25"], "watermark=25: the buffer holds 20 samples"),
        (
            ["online.clients=12", "online.buffer.capacity=18"],
            "capacity=18 is too small for 10 clients",
        ),
        (
            ["online.buffer.capacity=1000000000000"],
            "capacity=1000000000000 samples of 0.297 KiB take .* GiB, there are .*; lower",
        ),
        (["online.clients=0"], "clients=0 and reuse=4 must be positive"),
        (["online/buffer=fifo"], "reuse=4: fifo gives every sample exactly once"),
        (
            ["data.counts={train: 0, valid: 3, test: 3}"],
            "train=0: a stream has at least one simulation",
        ),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_computed(tmp_path, overrides, expected):
    with pytest.raises(ValueError, match=expected):
        online(tmp_path, "online.buffer.capacity=20", *overrides)
    assert not list(tmp_path.iterdir())


def test_an_experiment_without_its_stream_trains_on_files(tmp_path):
    config = compose(["experiment=online_heat", "online=none", f"data_dir={tmp_path}"])
    assert isinstance(_dataset(config), Generated)


def test_data_that_are_not_generated_cannot_stream(arrays, folder, capsys):
    done = main(*arrays, "online=inproc", capsys=capsys)
    assert done.code == 1 and "Arrays has no recipe that could be simulated" in done.err


@pytest.mark.slow
@pytest.mark.parametrize("buffer", ["reservoir", "pairs"])
def test_twenty_kills_in_a_run_change_nothing(train, tmp_path, buffer):  # noqa: F811
    chosen = f"online/buffer={buffer}"
    whole = train("whole", "online=inproc", chosen)
    shared = shared_memory()
    killed = train("killed", "online=local", "online/faults=kills", "online.engine.slots=1", chosen)
    assert equal(weights(whole), weights(killed))
    record = json.loads((killed / "stream.json").read_text())
    assert record["status"]["restarts"] >= 15 and not record["left_out"]
    assert shared_memory() <= shared
    assert not torch.multiprocessing.active_children()


def test_ctrl_c_ends_the_solvers(tmp_path):
    streamed = online(tmp_path, "online=local", "online.buffer.capacity=30")
    len(streamed.source("train"))
    pids = streamed.stream.intake.engine.pids()
    for pid in pids:
        os.kill(pid, signal.SIGINT)  # a terminal sends it to all; they leave it to the parent
    assert sum(1 for _ in streamed.loader()) == 60
    streamed.close()
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)
