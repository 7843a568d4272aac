"""The buffer whose second tier lies in the store: what it draws, from where, and that neither the
disk nor a stop shows in the batches.
"""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from datasets.reader import ShardedTrajectories
from datasets.stream import History, HistoryStored
from datasets.stream.buffer import Buffer
from datasets.stream.recording import Recording
from sciml.runtime.interruption import Interrupted
from tests.helpers import ROOT, equal, weights
from tests.lockstep import Lockstep
from tests.streams import online
from tests.test_stream_resume import train  # noqa: F401

SETTINGS = ("online/buffer=history_stored", "online.buffer.capacity=24", "online.clients=3")
WINDOWS = {
    "time": "data.window={history: 0, first: 1}",
    "steps": "data.window={history: 1}",
    "lead times": "data.window={history: 1, stride: [1, 6]}",
    "long windows": "data.window={history: 2, horizon: 2, stride: [1, 2]}",
    "without numbers": "data.window={history: 2, horizon: 1, parameters: false}",
    "from the middle": "data.window={history: 1, horizon: 1, first: 2, last: 6}",
}


def stored(folder, *overrides, tee="tee", **injected):
    """A stream with its second tier in `folder`/`tee`."""
    return online(folder, *SETTINGS, f"online.tee={folder}/{tee}", *overrides, **injected)


def batches(loader, count=None) -> list[bytes]:
    """The next `count` batches, or all to the end of the epoch."""
    found = []
    for batch in loader:
        parts = (batch.input, batch.target, batch.parameters)
        found.append(b"".join(part.contiguous().numpy().tobytes() for part in parts))
        if len(found) == count:
            break
    return found


def saved(loader) -> dict:
    """The state as a checkpoint holds it."""
    file = io.BytesIO()
    torch.save(loader.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.fixture
def small_shards(monkeypatch):
    """Two solutions each, so that some are on disk early."""
    monkeypatch.setattr("datasets.shards.MAX_SAMPLES", 2)


@pytest.fixture
def assembled(monkeypatch):
    """All samples that the assembler made: bytes of the parts, by simulation."""
    found: dict[int, list[bytes]] = {}

    def put(self, block, simulations, frames, original=Buffer.put):
        for k, i in enumerate(simulations.tolist()):
            found.setdefault(i, []).append(b"".join(block[n][k].tobytes() for n in sorted(block)))
        return original(self, block, simulations, frames)

    monkeypatch.setattr(Buffer, "put", put)
    return found


def read(stream) -> dict[int, list[bytes]]:
    """All samples of the second tier, in the same way."""
    found: dict[int, list[bytes]] = {}
    past, names = stream.buffer.past, sorted(stream.assembler.parts)
    for n in range(len(past)):
        parts, [i] = past.read([n])
        found.setdefault(int(i), []).append(b"".join(parts[m][0].numpy().tobytes() for m in names))
    return found


def require_equal(found, expected):
    assert found.keys() <= expected.keys()
    for i, samples in found.items():
        assert sorted(samples) == sorted(expected[i])


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_samples_from_memory_and_from_the_store_are_those_of_the_assembler(
    tmp_path, assembled, window
):
    made = stored(tmp_path, window)
    stream, shards = made.stream, tmp_path / "tee" / "data" / "train"
    with closing(made):
        while len(batches(made.loader(), 1)) and stream.intake.done < 6:
            pass
        assert not list(shards.iterdir())
        in_memory = read(stream)
        stream.state_dict()
        assert len(list(shards.iterdir())) == 1
        from_store = read(stream)
        assert from_store == in_memory and len(in_memory) >= 6
        require_equal(in_memory, assembled)
        batches(made.loader())
        require_equal(read(stream), assembled)
        assert len(stream.buffer.past) == stream.limiter.samples == stream.inserted


def test_few_open_files_are_enough(tmp_path, small_shards, assembled, monkeypatch):
    monkeypatch.setattr("datasets.stream.solutions.MAX_OPEN", 1)
    with closing(stored(tmp_path, "data.window={history: 1, stride: [1, 6]}")) as made:
        batches(made.loader())
        made.stream.state_dict()
        require_equal(read(made.stream), assembled)
        assert len(made.stream.tee.solutions()._shards._files) == 1


def test_pairs_of_a_steady_map_are_those_of_the_assembler(tmp_path, assembled):
    problem = ("data=darcy", "data.resolution=12")
    settings = ("online.buffer.capacity=6", "online.watermark=3")
    made = stored(tmp_path, *settings, problem=problem, batch_size=2)
    with closing(made):
        batches(made.loader(), 3)
        in_memory = read(made.stream)
        made.stream.state_dict()
        assert read(made.stream) == in_memory
        batches(made.loader())
        require_equal(read(made.stream), assembled)
        assert len(made.stream.buffer.past) == 10


def test_a_draw_of_the_second_tier_is_the_sample_it_says(tmp_path, assembled):
    """Also in the place of the batch that it goes to."""
    made = stored(tmp_path)
    stream, past = made.stream, 0
    draw = stream.buffer.policy.draw

    def spy(count, left):
        spy.rows = draw(count, left)
        return spy.rows

    stream.buffer.policy.draw = spy
    with closing(made):
        for _ in range(stream.limiter.steps):
            batch = stream.batch()
            for k in np.flatnonzero(spy.rows >= 24):
                parts, [i] = stream.buffer.past.read([int(spy.rows[k]) - 24])
                assert stream.simulations[k] == i
                assert torch.equal(batch.target[k], parts["target"][0])
                assert torch.equal(batch.parameters[k], parts["numbers"][0])
                past += 1
    assert past > stream.limiter.steps


def counts_of(policy, size: int, draws: int) -> np.ndarray:
    """How often each of `size` samples is drawn by the second tier."""
    chosen = [policy.draw(32, None) for _ in range(draws // 16)]
    rows = np.concatenate(chosen)
    return np.bincount(rows[rows >= policy.capacity] - policy.capacity, minlength=size)


@pytest.mark.parametrize("size", [1, 7, 600])
@pytest.mark.parametrize("seed", range(3))
def test_draws_of_the_second_tier_are_uniform(size, seed):
    policy = HistoryStored(64)
    policy.read_from(range(size))
    policy.start(batch_size=32, reuse=4, samples=1000, seed=seed)
    policy.insert(64)
    counts = counts_of(policy, size, 60_000)
    assert len(counts) == size and counts.sum() == 60_000
    assert size == 1 or chisquare(counts).pvalue > 1e-3


def test_draws_of_a_tier_in_memory_are_not():
    """The control: at one time `History` can draw what is in its rows and nothing else."""
    played = Lockstep(History(64), samples=1000, batch_size=32, reuse=4)
    while played.inserted < 600:
        played.step()
    rows = np.concatenate([played.draw(32) for _ in range(3750)])
    counts = np.bincount(played.held[rows[rows >= 32]], minlength=played.inserted)
    assert (counts > 0).sum() == 32 and chisquare(counts).pvalue < 1e-12


def test_every_window_of_every_whole_solution_can_be_drawn(tmp_path, monkeypatch):
    """At any time; those of solutions under way cannot."""
    made, numbers = stored(tmp_path), []
    stream = made.stream
    past, w = stream.buffer.past, stream.assembler.per_simulation
    ended: list[int] = []

    def add(frame, live, original=stream.tee.add):
        if live and frame.number == stream.intake.study.frames - 1:
            ended.append(frame.simulation)
        return original(frame, live)

    monkeypatch.setattr(stream.tee, "add", add)
    monkeypatch.setattr(
        past, "read", lambda n, original=past.read: numbers.append(n) or original(n)
    )
    with closing(made):
        while len(ended) < 5:
            stream.batch()
            assert len(past) == w * len(ended)
            assert all(0 <= n < len(past) for some in numbers[-1:] for n in some)
        policy = stream.buffer.policy
        counts = counts_of(policy, len(past), 30_000)
        assert len(counts) == w * len(ended) and chisquare(counts).pvalue > 1e-3
        _, simulations = past.read(range(len(past)))
        assert simulations.tolist() == np.repeat(ended, w).tolist()


def test_before_a_solution_is_whole_all_of_a_batch_is_recent(tmp_path):
    made = stored(tmp_path, "online.watermark=4", "online.clients=10")
    stream, without = made.stream, 0
    draw, drawn = stream.buffer.policy.draw, []
    stream.buffer.policy.draw = lambda *a: drawn.append(draw(*a)) or drawn[-1]
    with closing(made):
        for _ in range(stream.limiter.steps):
            stream.batch()
            past = int((drawn[-1] >= 24).sum())
            assert past == (2 if len(stream.buffer.past) else 0)
            without += past == 0
    assert 0 < without < stream.limiter.steps


@pytest.mark.parametrize("stop", [3, 11, 29, 44])
def test_a_state_leads_to_the_same_next_batches(tmp_path, small_shards, stop):
    """Though the run had gone on, and recorded more, before it was killed."""
    whole = stored(tmp_path, tee="whole")
    expected = batches(whole.loader())
    whole.close()
    first = stored(tmp_path)
    begun = batches(first.loader(), stop)
    state, shards = saved(first.loader()), len(Recording(tmp_path / "tee").manifest.shards)
    batches(first.loader(), min(12, len(expected) - stop))  # and no more of it: it is killed
    first.stream.tee._writer.settle()
    if stop < 29:
        assert len(Recording(tmp_path / "tee").manifest.shards) > shards
    second = stored(tmp_path)
    second.loader().load_state_dict(state)
    assert begun + batches(second.loader()) == expected
    second.close()
    recording = Recording(tmp_path / "tee")
    assert recording.complete and sorted(recording.samples) == list(range(10))
    assert np.array_equal(recording.arrivals(), Recording(tmp_path / "whole").arrivals())
    assert len(ShardedTrajectories(tmp_path / "tee", "train")) == 10


def test_the_seed_decides(tmp_path):
    """The control of the comparisons of batches here."""
    first, again, other = (
        batches(stored(tmp_path, tee=f"tee{k}", seed=seed).loader(), 30)
        for k, seed in enumerate((0, 0, 1))
    )
    assert first == again and first != other


PROGRAM = """\
import sys, time, torch
from pathlib import Path
import datasets.shards
from tests.test_stream_history_stored import batches, stored
datasets.shards.MAX_SAMPLES = 2
folder = Path(sys.argv[1])
made = stored(folder)
batches(made.loader(), 11)
torch.save(made.loader().state_dict(), folder / "state")
batches(made.loader(), 12)
(folder / "ready").touch()
while True:
    batches(made.loader(), 1)
    time.sleep(0.2)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_batches(tmp_path, small_shards):
    whole = stored(tmp_path, tee="whole")
    expected = batches(whole.loader())
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], cwd=ROOT)
    while not (tmp_path / "ready").is_file() and process.poll() is None:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    rest = stored(tmp_path)
    rest.loader().load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    assert batches(rest.loader()) == expected[11:]


@pytest.mark.slow
def test_a_stopped_training_goes_on_to_the_same_weights(train, tmp_path, small_shards):  # noqa: F811
    chosen = ("online=inproc", "online/buffer=history_stored")
    whole = train("whole", *chosen, f"online.tee={tmp_path}/whole_tee")
    part = (*chosen, f"online.tee={tmp_path}/tee")
    with pytest.raises(Interrupted):
        train("part", *part, stop_at=29)
    rest = train("rest", *part, f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt")
    assert equal(weights(whole, "last"), weights(rest, "last"))
    replay = ["data=replay", f"path={tmp_path}/tee"]
    assert equal(weights(whole), weights(train("replay", *chosen, replaced=replay)))


def test_who_computes_and_how_fast_the_disk_is_does_not_matter(tmp_path, small_shards, monkeypatch):
    expected = batches(stored(tmp_path, tee="first").loader())
    local = stored(tmp_path, "online=local", "online.engine.workers=2", tee="local")
    with closing(local):
        assert batches(local.loader()) == expected
    from datasets.stream import tee

    def slowly(*arguments, original=tee.commit_shard, **settings):
        time.sleep(0.2)
        return original(*arguments, **settings)

    monkeypatch.setattr(tee, "commit_shard", slowly)
    assert batches(stored(tmp_path, tee="slow").loader()) == expected


def test_a_recording_gives_it_again(tmp_path):
    """It is read from the recording itself then."""
    made = stored(tmp_path)
    with closing(made):
        expected = batches(made.loader())
    replay = [*SETTINGS, "data=replay", f"path={tmp_path}/tee"]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "tee").rglob("*")}
    again = online(tmp_path, *replay, problem=())
    with closing(again):
        assert batches(again.loader(), 20) == expected[:20]
        state = saved(again.loader())
    rest = online(tmp_path, *replay, problem=())
    rest.loader().load_state_dict(state)
    with closing(rest):
        assert batches(rest.loader()) == expected[20:]
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "tee").rglob("*")}


def test_a_checkpoint_holds_none_of_the_second_tier(tmp_path):
    made = stored(tmp_path)
    with closing(made):
        batches(made.loader())
        state = made.loader().state_dict()
    past = state["buffer"]["past"]
    assert list(past) == ["whole"] and sorted(past["whole"].tolist()) == list(range(10))
    assert state["buffer"]["storage"]["target"].shape[0] == 24


def full_after(count, monkeypatch):
    """A disk that has room for some shards."""
    from datasets.stream import tee

    written = []

    def commit_shard(folder, task, *rest, original=tee.commit_shard, **settings):
        if len(written) == count:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(task)
        return original(folder, task, *rest, **settings)

    monkeypatch.setattr(tee, "commit_shard", commit_shard)


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_full_disk_leaves_what_is_committed_and_in_memory(
    tmp_path, small_shards, monkeypatch, assembled, room
):
    with monkeypatch.context() as patch:
        full_after(room, patch)
        made = stored(tmp_path)
        stream = made.stream
        while stream.tee.failure is None:
            stream.batch()
        assert "No space left" in stream.tee.failure
        left = stream.limiter.steps - stream.batches
        found, size = read(stream), len(stream.buffer.past)
        assert len(found) > 2 * room, "also what was not written"
        state = saved(made.loader())
        assert len(batches(made.loader())) == left > 0
        assert len(stream.buffer.past) == size and read(stream) == found
        require_equal(found, assembled)
        made.close()
    recording = Recording(tmp_path / "tee")
    assert len(recording.samples) == 2 * room and not recording.complete
    assert len(ShardedTrajectories(tmp_path / "tee", "train")) == 2 * room
    rest = stored(tmp_path)
    rest.loader().load_state_dict(state)
    assert sorted(read(rest.stream)) == sorted(recording.samples)
    assert len(batches(rest.loader())) == left
    rest.close()
    assert "No space left" in rest.stream.tee.failure
    assert Recording(tmp_path / "tee").samples == recording.samples, "it has ended"


def test_without_a_store_it_does_not_begin(tmp_path):
    with pytest.raises(ValueError, match="history_stored .* set online.tee=FOLDER, or take online"):
        online(tmp_path, *SETTINGS)
    with closing(stored(tmp_path)) as made:
        assert made.described()["buffer"] == "HistoryStored"


def test_solutions_of_another_run_are_refused(tmp_path):
    """Its parameters were chosen otherwise; those of the same run are welcome."""
    with closing(stored(tmp_path)) as made:
        batches(made.loader())
    with closing(stored(tmp_path)) as again:
        batches(again.loader())
    other = stored(tmp_path, "online/sampler=sobol")
    with pytest.raises(ValueError, match="other parameters, .* give a new folder"):
        batches(other.loader())


def test_a_checkpoint_needs_the_recording_it_draws_from(tmp_path):
    with closing(stored(tmp_path)) as made:
        batches(made.loader(), 30)
        state = saved(made.loader())
    shutil.rmtree(tmp_path / "tee")
    with pytest.raises(ValueError, match="solutions that the checkpoint draws from are not in"):
        stored(tmp_path).loader().load_state_dict(state)
