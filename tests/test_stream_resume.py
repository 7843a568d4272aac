"""A run on a stream that was stopped or killed and goes on is the run that was not."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sciml.run import run
from sciml.runtime.checkpoints import Checkpoints
from sciml.runtime.interruption import Interrupted
from sciml.runtime.run_folder import RunFolder
from sciml.runtime.stream_state import StreamState
from sciml.tasks import Supervised
from tests.helpers import ROOT, compose, equal, weights
from tests.streams import COUNTS, PLATE, online

SMALL = (
    "model=fully_connected",
    "model.hidden=[16]",
    "online.buffer.capacity=24",
    "online.clients=3",
    "batch_size=4",
    "trainer.max_epochs=3",
)
BUFFERS = {
    "reservoir": (),
    "fifo": ("online.reuse=1",),
    "firo": ("online.reuse=1",),
    "quota": (),
    "history": (),
    "batch_reservoir": (),
    "pairs": ("online.buffer.capacity=4",),
}


@pytest.fixture
def train(tmp_path, monkeypatch):
    monkeypatch.setattr("sciml.run.write_report", lambda folder: folder)  # takes longer than all

    def fit(name, *overrides, stop_at=None, replaced=(*PLATE, COUNTS)):
        def step(task, batch, index, original=Supervised.training_step):
            if task.global_step == stop_at:
                signal.raise_signal(signal.SIGTERM)
            return original(task, batch, index)

        with monkeypatch.context() as patch:
            patch.setattr(Supervised, "training_step", step)
            config = compose([*replaced, *SMALL, f"data_dir={tmp_path}", *overrides])
            run(config, RunFolder(tmp_path / name))
        return tmp_path / name

    return fit


PLACES = [("reservoir", 7), ("reservoir", 44), ("history", 29), ("quota", 29), ("firo", 7)]
PLACES += [("pairs", 29)]
OTHERS = [(b, stop) for b in BUFFERS for stop in (7, 29, 44) if (b, stop) not in PLACES]


@pytest.mark.parametrize(
    "buffer, stop", PLACES + [pytest.param(*o, marks=pytest.mark.slow) for o in OTHERS]
)
def test_a_stopped_run_goes_on_as_if_it_had_not_been(train, tmp_path, buffer, stop):
    """In mid-epoch while simulations run, at the end of one, and after the last simulation."""
    if "online.reuse=1" in BUFFERS[buffer] and stop > 12:
        pytest.skip("there are 15 steps")
    chosen = ("online=inproc", f"online/buffer={buffer}", *BUFFERS[buffer])
    whole = train("whole", *chosen)
    with pytest.raises(Interrupted):
        train("part", *chosen, stop_at=stop)
    rest = train("rest", *chosen, f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt")
    assert equal(weights(whole, "last"), weights(rest, "last"))
    assert equal(weights(whole), weights(rest))


@pytest.mark.parametrize("name", ["last", pytest.param("best", marks=pytest.mark.slow)])
def test_a_run_that_was_killed_goes_on_from_the_end_of_an_epoch(train, tmp_path, monkeypatch, name):
    """Where Lightning does not load the state of a loader."""
    whole = train("whole", "online=inproc")
    with monkeypatch.context() as patch:

        def end(callback, trainer, task, original=Checkpoints.on_train_epoch_end):
            original(callback, trainer, task)
            raise MemoryError

        patch.setattr(Checkpoints, "on_train_epoch_end", end)
        with pytest.raises(MemoryError):
            train("part", "online=inproc")
    checkpoint = f"ckpt_path={tmp_path}/part/checkpoints/{name}.ckpt"
    assert equal(weights(whole), weights(train("rest", "online=inproc", checkpoint)))
    monkeypatch.setattr(StreamState, "on_train_start", lambda *a: None)
    begun_again = train("control", "online=inproc", checkpoint)
    assert equal(weights(whole), weights(begun_again)) == (name == "best")


@pytest.mark.parametrize("buffer", ["reservoir", pytest.param("pairs", marks=pytest.mark.slow)])
def test_who_computes_does_not_matter(train, tmp_path, buffer):
    """Begun by processes, continued by this one; the weights are those of this one alone."""
    chosen = (f"online/buffer={buffer}", *BUFFERS[buffer])
    whole = train("whole", "online=inproc", *chosen)
    processes = train("processes", "online=local", "online.engine.slots=3", *chosen)
    assert equal(weights(whole), weights(processes))
    with pytest.raises(Interrupted):
        train("part", "online=local", "online.engine.workers=2", *chosen, stop_at=20)
    rest = train(
        "rest", "online=inproc", *chosen, f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt"
    )
    assert equal(weights(whole), weights(rest))


def test_the_buffer_is_a_part_of_the_run(train, tmp_path):
    """The control: with another one it does not go on, nor end the same."""
    whole = train("whole", "online=inproc")
    assert not equal(weights(whole), weights(train("other", "online=inproc", "seed=1")))
    last = f"ckpt_path={whole}/checkpoints/last.ckpt"
    with pytest.raises(ValueError, match="online.buffer.capacity was 24, is 30"):
        train("rest", "online=inproc", last, "online.buffer.capacity=30")


def test_a_trained_model_is_evaluated_without_a_simulation(train, tmp_path, monkeypatch):
    whole = train("whole", "online=inproc")
    monkeypatch.setattr("datasets.stream.inproc.Inproc.start", None)
    best = f"ckpt_path={whole}/checkpoints/best.ckpt"
    train("tested", "online=inproc", best, "fit=false")
    assert (tmp_path / "tested" / "metrics.json").is_file()


def test_the_state_of_a_stream_leads_to_the_same_next_batches(tmp_path):
    first = online(tmp_path, "online.buffer.capacity=24").loader()
    iterator = iter(first)
    for _ in range(11):
        next(iterator)
    torch.save(first.state_dict(), tmp_path / "state")
    expected = [torch.cat((b.target.clone(), b.target.clone())) for b in list(iterator)[:50]]
    second = online(tmp_path, "online.buffer.capacity=24").loader()
    second.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    found = [torch.cat((b.target.clone(), b.target.clone())) for b in list(iter(second))[:50]]
    assert len(found) == 49 and all(map(torch.equal, found, expected))


def shared_memory() -> set[Path]:
    """What lies in shared memory; semaphores may be those of a test beside this one."""
    return {path for path in Path("/dev/shm").iterdir() if not path.name.startswith("sem.")}


def group(leader: int) -> list[str]:
    """Processes of a group that run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, number = path.read_text().rsplit(")", 1)[1].split()[:3]
            if int(number) == leader and state != "Z":
                found.append(path.parent.name)
    return found


def wait_until(true, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_leaves_nothing(train, tmp_path):
    """SIGKILL of the training: its solvers end with it, no shared memory stays."""
    before = shared_memory()
    whole = train("whole", "online=inproc", "checkpoint_every=5")
    command = [
        sys.executable,
        "train.py",
        *PLATE,
        COUNTS,
        *SMALL,
        f"data_dir={tmp_path}",
        "online=local",
    ]
    command += [
        "checkpoint_every=5",
        "online/faults=slow",
        "online.faults.slow=[0,1,2,3,4,5,6,7,8,9]",
        "online.faults.delay=0.02",
    ]
    part = subprocess.Popen(
        [*command, f"hydra.run.dir={tmp_path}/part"], cwd=ROOT, start_new_session=True
    )
    last = tmp_path / "part" / "checkpoints" / "last.ckpt"
    while not last.is_file() and part.poll() is None:
        pass
    os.kill(part.pid, signal.SIGKILL)
    part.wait()
    rest = train("rest", "online=inproc", f"ckpt_path={last}", "checkpoint_every=5")
    assert equal(weights(whole), weights(rest))
    wait_until(lambda: not group(part.pid))  # the workers notice within moments
    assert shared_memory() <= before
