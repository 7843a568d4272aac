"""Processes that divide a study among them."""

import json
from contextlib import closing
from dataclasses import replace

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from tests.streams import arrivals, online, study

# Simulations 3 and 7 of ten belong to process 1 of 2, which has to go on without them.
FAULTS = ("+online.faults.raises=[3,7]", "online.tolerate=0.5", "online.retries=0")
SETTINGS = ("online.clients=2", "online.buffer.capacity=16", "online.reuse=3")


def shares(count: int, ranks: int, lanes: int):
    whole = study(lanes=lanes)
    each = replace(whole, count=count // ranks, lanes=min(lanes, count // ranks), ranks=ranks)
    return [replace(each, rank=r) for r in range(ranks)]


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("lanes", [1, 2, 4])
def test_shares_are_equal_and_disjoint(ranks, lanes):
    found = []
    for share in shares(10, ranks, lanes):
        mine = []
        for lane, simulation in enumerate(share.firsts()):
            while simulation is not None:
                assert share.lane(simulation) == lane
                mine.append(simulation)
                simulation = share.after(simulation)
        assert len(mine) == share.count == 10 // ranks
        found += mine
    assert sorted(found) == list(range(10 // ranks * ranks))


def test_shares_are_the_frames_of_the_whole():
    whole = sorted(arrivals(replace(study(), count=10)))
    parts = [arrivals(share) for share in shares(10, 2, 2)]
    assert sorted(parts[0] + parts[1]) == whole
    assert {i % 2 for i, *_ in parts[0]} == {0}


def stream(rank: int, ranks: int, folder) -> None:
    """Draw batches as long as the other processes do, and say what came."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=ranks)
    made, drawn, numbers = online(folder / str(rank), *FAULTS, *SETTINGS), [], set()
    with closing(made):
        loader = made.loader()
        for _ in range(loader.steps // len(loader)):
            for _ in loader:
                numbers |= set(made.stream.simulations.tolist())
                total = torch.ones(())
                dist.all_reduce(total)  # would wait for ever for a process that has stopped
                drawn.append(int(total))
    left_out = sorted(made.stream.intake.quarantined)
    record = {"drawn": drawn, "steps": loader.steps, "numbers": sorted(numbers), "out": left_out}
    (folder / f"{rank}.json").write_text(json.dumps(record))
    dist.destroy_process_group()


@pytest.mark.timeout(120)
def test_processes_stop_together_though_one_leaves_simulations_out(tmp_path):
    multiprocessing.spawn(stream, (2, tmp_path), nprocs=2)
    found = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert found[0]["drawn"] == found[1]["drawn"] == [2] * found[0]["steps"]
    assert [one["out"] for one in found] == [[], [3, 7]]
    assert found[0]["numbers"] == [0, 2, 4, 6, 8]
    assert found[1]["numbers"] == [1, 5, 9]


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)


def test_what_several_processes_cannot_do(tmp_path, two_processes):
    with pytest.raises(ValueError, match="2 processes divide the stream.*leave online.tee out"):
        online(tmp_path, f"online.tee={tmp_path}/tee")
    with pytest.raises(ValueError, match="at least one simulation for each of 2 processes"):
        online(tmp_path, "data.counts={train: 1, valid: 1, test: 1}")
    made = online(tmp_path, "data.counts={train: 7, valid: 1, test: 1}", "online.clients=2")
    assert made.stream.intake.study.count == 3
