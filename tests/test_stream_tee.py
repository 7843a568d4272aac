"""A stream that is recorded while it is trained on, and the run that it repeats."""

import errno
import json
from contextlib import closing

import numpy as np
import pytest

from datasets.check import check
from datasets.reader import ShardedTrajectories
from datasets.stream.recording import Recording
from sciml.evaluation.stream import section
from sciml.runtime.interruption import Interrupted
from tests.helpers import equal, weights
from tests.streams import arrivals, online, recorded, study
from tests.test_stream_resume import train  # noqa: F401


def replayed(folder) -> list[str]:
    return ["data=replay", f"path={folder}"]


def test_a_recording_holds_every_solution_and_the_order(tmp_path):
    streamed = online(tmp_path, f"online.tee={tmp_path}/tee")
    for _ in streamed.loader():
        pass
    streamed.close()
    recording, expected = Recording(tmp_path / "tee"), arrivals(study(lanes=10))
    assert recording.complete and sorted(recording.samples) == list(range(10))
    assert [tuple(row) for row in recording.arrivals()] == [(i, k) for i, k, _ in expected]
    assert not [f for f in check(tmp_path / "tee") if f.level == "failed"]
    stored = Recording(tmp_path / "tee")
    assert stored.manifest.header.counts == {"train": 10, "valid": 0, "test": 0}


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "way",
    ["online/faults=not_finite", "online/buffer=pairs", pytest.param("", marks=SLOW)]
    + [pytest.param("online.ordered=false", marks=SLOW)],
)
def test_the_run_is_repeated_bit_by_bit(train, tmp_path, way):  # noqa: F811
    """Also where frames were taken as they came, and where a simulation failed."""
    chosen = [f"online.tee={tmp_path}/tee", "online.tolerate=0.3", *([way] if way else [])]
    if way == "online.ordered=false":
        chosen += ["online.engine.workers=2", "online.engine.slots=2"]
    first = train("first", "online=local", *chosen)
    calm = [c for c in chosen[1:] if "faults" not in c and "engine" not in c]
    second = train("second", "online=inproc", *calm, replaced=replayed(tmp_path / "tee"))
    assert equal(weights(first), weights(second))
    assert equal(weights(first, "last"), weights(second, "last"))


def test_a_continued_run_goes_on_with_its_recording(train, tmp_path):  # noqa: F811
    whole = train("whole", "online=inproc", f"online.tee={tmp_path}/whole_tee")
    tee = f"online.tee={tmp_path}/tee"
    with pytest.raises(Interrupted):
        train("part", "online=local", tee, stop_at=22)
    assert not Recording(tmp_path / "tee").complete
    rest = train("rest", "online=inproc", tee, f"ckpt_path={tmp_path}/part/checkpoints/last.ckpt")
    assert equal(weights(whole), weights(rest))
    one, other = Recording(tmp_path / "whole_tee"), Recording(tmp_path / "tee")
    assert np.array_equal(one.arrivals(), other.arrivals()) and other.complete
    assert sorted(other.samples) == sorted(one.samples) == list(range(10))


def test_a_full_disk_ends_the_recording_and_not_the_training(train, tmp_path, monkeypatch):  # noqa: F811
    whole = train("whole", "online=inproc")
    monkeypatch.setattr("datasets.shards.MAX_SAMPLES", 2)
    from datasets.stream import tee

    written, original = [], tee.commit_shard

    def commit_shard(folder, task, *rest, **settings):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(task)
        return original(folder, task, *rest, **settings)

    monkeypatch.setattr("datasets.stream.tee.commit_shard", commit_shard)
    run = train("run", "online=inproc", f"online.tee={tmp_path}/tee")
    assert equal(weights(whole), weights(run))
    record = json.loads((run / "stream.json").read_text())
    assert "No space left" in record["recording"]["failure"]
    assert "in part, the disk refused the rest" in dict(section(record)["rows"])["Recorded"]
    whole_record = json.loads((whole / "stream.json").read_text())
    assert "Recorded" not in dict(section(whole_record)["rows"])
    recorded = Recording(tmp_path / "tee")
    assert not recorded.complete and not [f for f in check(recorded.path) if f.level == "failed"]


def test_other_folders_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty; give online.tee a new folder"):
        online(tmp_path, f"online.tee={tmp_path}/full")
    with pytest.raises(ValueError, match="no recorded stream here"):
        Recording(tmp_path / "full")


@pytest.fixture
def small_shards(monkeypatch):
    """Two solutions each."""
    monkeypatch.setattr("datasets.shards.MAX_SAMPLES", 2)


def drain(made, count=None):
    """Draw the next batches, or all."""
    for k, _ in enumerate(made.loader(), 1):
        if k == count:
            break


def test_what_a_killed_run_recorded_after_its_checkpoint_is_known(tmp_path, small_shards):
    first = online(tmp_path, f"online.tee={tmp_path}/tee", "online.clients=3")
    drain(first, 11)
    state, count = first.loader().state_dict(), len(Recording(tmp_path / "tee").samples)
    drain(first, 16)
    first.stream.tee._writer.settle()  # and no more of it: it is killed
    assert len(Recording(tmp_path / "tee").samples) > count
    with closing(online(tmp_path, f"online.tee={tmp_path}/tee", "online.clients=3")) as second:
        second.loader().load_state_dict(state)
        drain(second)
    assert sorted(Recording(tmp_path / "tee").samples) == list(range(10))
    assert len(ShardedTrajectories(tmp_path / "tee", "train")) == 10


def test_a_recording_that_ended_stays_so_when_its_run_goes_on(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("datasets.stream.tee.commit_shard", full)
        made = online(tmp_path, f"online.tee={tmp_path}/tee")
        drain(made, 30)
        state = made.loader().state_dict()
    assert "No space left" in made.stream.tee.failure
    with closing(online(tmp_path, f"online.tee={tmp_path}/tee")) as rest:
        rest.loader().load_state_dict(state)
        drain(rest)
    assert "No space left" in rest.stream.tee.failure
    recording = Recording(tmp_path / "tee")
    assert not recording.complete and recording.samples == []


def full(*arguments, **settings):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_is_written_after_a_failure(tmp_path, small_shards, monkeypatch):
    """A disk that has room again: the shard that is missing leaves no gap."""
    from datasets.stream import tee

    written = []

    def commit_shard(folder, task, *rest, original=tee.commit_shard, **settings):
        written.append(task)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(folder, task, *rest, **settings)

    monkeypatch.setattr(tee, "commit_shard", commit_shard)
    with closing(online(tmp_path, f"online.tee={tmp_path}/tee")) as made:
        drain(made)
    assert len(written) == 2 and len(ShardedTrajectories(tmp_path / "tee", "train")) == 2


def test_a_shard_that_nothing_is_known_about_is_made_again(tmp_path, small_shards):
    """The run died before it said which simulations are in it."""
    folder = recorded(tmp_path)
    record = json.loads((folder / "study.json").read_text())
    record |= {"simulations": record["simulations"][:4], "complete": False}
    (folder / "study.json").write_text(json.dumps(record))
    with closing(online(tmp_path, f"online.tee={folder}")) as made:
        assert len(ShardedTrajectories(folder, "train")) == 4
        drain(made)
    assert sorted(Recording(folder).samples) == list(range(10))
    assert len(ShardedTrajectories(folder, "train")) == 10


def test_a_recording_is_not_written_over_itself(tmp_path):
    folder = recorded(tmp_path)
    replay = ("data=replay", f"path={folder}")
    with pytest.raises(ValueError, match="is the recording that is given again; leave online.tee"):
        online(tmp_path, *replay, f"online.tee={folder}/", problem=())
    online(tmp_path, *replay, f"online.tee={tmp_path}/other", problem=())
