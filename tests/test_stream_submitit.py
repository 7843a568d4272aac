"""Jobs and a folder give what one process computes, whatever becomes of the jobs."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from datasets.stream import Faults, Submitit
from datasets.stream.engine import Plan
from datasets.stream.events import Ended, Failed, Frame
from datasets.stream.shard import packed, unpacked
from tests.helpers import equal, weights
from tests.streams import arrivals, crashing, study
from tests.test_stream_faults import taken
from tests.test_stream_resume import train  # noqa: F401

SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def expected():
    return arrivals(study())


@pytest.fixture
def make(tmp_path):
    pytest.importorskip("submitit")
    made = []

    def build(jobs=2, patience=60.0, **settings) -> Submitit:
        made.append(Submitit(str(tmp_path / "spool"), jobs, "local", patience=patience, **settings))
        return made[-1]

    yield build
    assert not list((tmp_path / "spool").glob("*"))
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path).encode() not in path.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue


def size(engine: Submitit) -> int:
    """Bytes of the shards in the folder, those that are being written too."""
    total = 0
    for path in engine.spool.glob("job-*/shard-*"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_a_shard_gives_back_its_events():
    u = np.arange(6, dtype=np.float32).reshape(1, 2, 3)
    head = Frame(1, 5, 0, u, u[:0], np.array([0.1, 0.2]))
    events = [head, Ended(1, 1), Frame(3, 7, 2, -u), Failed(1, 5, 1, "ValueError: wörds")]
    released = []
    found = unpacked(packed(events), lambda: released.append(1))
    assert found[1] == events[1] and found[3] == events[3]
    for one, other in zip((found[0], found[2]), (head, events[2]), strict=True):
        assert (one.lane, one.simulation, one.number) == (
            other.lane,
            other.simulation,
            other.number,
        )
        assert one.state.dtype == np.float32 and np.array_equal(one.state, other.state)
        one.release()
    assert np.array_equal(found[0].parameters, head.parameters) and len(released) == 2
    assert found[0].constants.shape == (0, 2, 3) and found[2].constants is None


@pytest.mark.parametrize("data", [b"", b"abc", packed([Ended(0, 0)]) + b"x", b"\4\0\0\0nope"])
def test_what_is_no_shard_is_refused(data):
    with pytest.raises(ValueError, match="shard of frames"):
        unpacked(data, lambda: None)


def test_a_shard_that_is_cut_is_refused():
    data = packed([Frame(0, 0, 0, np.zeros((1, 4), np.float32))])
    with pytest.raises(ValueError, match="shard of frames"):
        unpacked(data[:-1], lambda: None)


def test_jobs_deliver_what_one_process_computes(expected, make):
    assert arrivals(study(), make()) == expected


@SLOW
def test_out_of_order_every_frame_arrives_once_too(expected, make):
    assert sorted(arrivals(study(), make(), ordered=False)) == sorted(expected)


@SLOW
@pytest.mark.parametrize("ordered", [True, False])
def test_killed_jobs_cost_nothing(expected, make, ordered):
    engine, killed = make(most_bytes=2 * 40_000), []

    def kill(count):
        if count % 40 == 0 and len(killed) < 2 and (others := set(engine.pids()) - set(killed)):
            killed.append(max(others))
            os.kill(killed[-1], signal.SIGKILL)

    found = arrivals(study("data.pde.num_steps=60"), engine, every=kill, ordered=ordered)
    whole = arrivals(study("data.pde.num_steps=60"))
    assert (found if ordered else sorted(found)) == (whole if ordered else sorted(whole))
    assert len(set(killed)) == 2


@SLOW
def test_the_folder_is_bounded_and_without_a_bound_it_is_not(make):
    made, most = study("data.pde.num_steps=400"), 90_000
    sizes = {}
    for bound in (most, 2e9):
        engine, found = make(most_bytes=bound), []

        def look(count, engine=engine, found=found):
            if count == 10:
                time.sleep(3.0)  # a training that is slower than its solvers
            if count % 10 == 0:
                found.append(size(engine))

        arrivals(made, engine, every=look)
        sizes[bound] = max(found)
    assert 0 < sizes[most] <= most < sizes[2e9]


@SLOW
@pytest.mark.parametrize("kind", ["nan", "raises"])
def test_a_simulation_that_fails_is_left_out(make, kind):
    found, intake = taken(study(faults=Faults(**{kind: [1, 5]})), make(), tolerate=0.2)
    assert set(found) == {(i, k) for i in range(10) for k in range(1 if i in (1, 5) else 7)}
    assert len(found) == len(set(found))
    assert set(intake.quarantined) == {1, 5} and intake.restarts == 6


@SLOW
def test_a_client_that_hangs_is_cancelled_tried_again_and_left_out(make):
    found, intake = taken(
        study(faults=Faults(hang=[2])), make(1, patience=1.5), retries=1, tolerate=0.2
    )
    assert set(found) == {(i, k) for i in range(10) for k in range(1 if i == 2 else 7)}
    assert len(found) == len(set(found)) and intake.restarts == 2
    assert "gave no frame for 1.5 s" in intake.quarantined[2]["reason"]


@SLOW
def test_a_solver_that_ends_its_process_is_named(make, tmp_path):
    made = study(problem=crashing(tmp_path))
    _, intake = taken(made, make(), retries=1, tolerate=0.5)
    assert intake.quarantined and {one["frame"] for one in intake.quarantined.values()} == {3}
    assert all("its job" in one["reason"] for one in intake.quarantined.values())


@SLOW
def test_jobs_whose_run_is_gone_end_by_themselves(make):
    engine, pids = make(patience=2.0), []

    def vanish(count):
        if len(engine.pids()) == 2:
            pids.extend(engine.pids())
            engine._closed.set()  # nobody says any more that the run is alive
            time.sleep(5.0)
            assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        arrivals(study("data.pde.num_steps=400"), engine, every=vanish)
    assert len(pids) == 2


def test_settings_that_cannot_work_are_refused(make, tmp_path):
    with pytest.raises(ValueError, match="jobs=0 must be at least 1"):
        Submitit(str(tmp_path), 0)
    with pytest.raises(ValueError, match="most_bytes=1000 is too little .* at least"):
        arrivals(study(), make(most_bytes=1000))
    with pytest.raises(ValueError, match="executor=slurm: .* use executor=local"):
        arrivals(study(), Submitit(str(tmp_path / "spool")))


@SLOW
def test_a_run_ends_with_the_weights_that_one_process_gives(train, tmp_path):  # noqa: F811
    pytest.importorskip("submitit")
    folder = tmp_path / "run_spool"
    settings = [f"online.engine.folder={folder}", "online.engine.executor=local"]
    one = train("one", "online=inproc")
    many = train(
        "many", "online=submitit", *settings, "online/faults=kills", "online.faults.kills=2"
    )
    assert equal(weights(one), weights(many)) and not list(folder.iterdir())


def test_without_submitit_it_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "submitit", None)
    engine = Submitit(str(tmp_path), executor="local")
    with (
        contextlib.closing(engine),
        pytest.raises(ValueError, match="pip install submitit==1.5.4"),
    ):
        engine.start(study(), Plan({}))
    assert not list(tmp_path.iterdir())
