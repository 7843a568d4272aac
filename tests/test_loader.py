"""The order of batches follows from (seed, epoch) alone and is taken up where it was left."""

import multiprocessing
import time

import pytest
import torch
from torch.utils.data import DataLoader

from datasets.loader import EpochBatches, ResumableLoader
from datasets.schema import Batch, Field, Metadata
from solvers.grid import Grid

N, SIZE = 23, 4  # five full batches and a short one of 3


class Numbers:
    """Sample i holds the number i (a `Source`)."""

    metadata = Metadata("numbers", (Field("a"),), (Field("u"),), Grid.box((2,)))

    def __init__(self, count: int = N):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitems__(self, indices) -> Batch:
        a = torch.tensor(indices, dtype=torch.float64).reshape(-1, 1, 1).expand(-1, 1, 2)
        return Batch(a, a, torch.empty(len(indices), 0), self.metadata.grid.mesh())


class Counted(Numbers):
    """Counts the batches read in all processes."""

    def __init__(self):
        super().__init__()
        self.reads = multiprocessing.Value("i", 0)

    def __getitems__(self, indices) -> Batch:
        with self.reads.get_lock():
            self.reads.value += 1
        return super().__getitems__(indices)


def loader(seed: int = 0, *, shuffle: bool = True, num_workers: int = 0) -> ResumableLoader:
    return ResumableLoader(Numbers(), SIZE, seed=seed, shuffle=shuffle, num_workers=num_workers)


def epoch(batches) -> list[list[int]]:
    return [batch.input[:, 0, 0].int().tolist() for batch in batches]


def test_an_epoch_holds_every_sample_once_and_ends_with_a_short_batch():
    batches = epoch(loader())
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 3]
    assert sorted(sum(batches, [])) == list(range(N))
    assert len(loader()) == 6


def test_without_shuffling_the_order_is_that_of_the_source():
    batches = loader(shuffle=False)
    assert sum(epoch(batches), []) == list(range(N))
    assert sum(epoch(batches), []) == list(range(N))


def test_the_order_depends_on_seed_and_epoch_alone():
    first, again, other = loader(), loader(), loader(seed=1)
    epochs = [epoch(first) for _ in range(3)]
    torch.manual_seed(123)
    torch.rand(7)
    assert [epoch(again) for _ in range(3)] == epochs
    assert len({str(e) for e in epochs}) == 3
    assert epoch(other) != epochs[0]


def test_neighbouring_seeds_and_epochs_share_no_order():
    orders = set()
    for seed in range(20):
        batches = EpochBatches(N, N, seed=seed, shuffle=True)
        for batches.epoch in range(20):
            orders.add(str(list(batches)))
    assert len(orders) == 400


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_global_random_state_is_left_alone(num_workers):
    before = torch.get_rng_state()
    batches = loader(num_workers=num_workers)
    epoch(batches)
    epoch(batches)
    assert torch.equal(torch.get_rng_state(), before)
    epoch(DataLoader(Numbers(), batch_size=SIZE, shuffle=True, collate_fn=lambda batch: batch))
    assert not torch.equal(torch.get_rng_state(), before)  # the control: torch's own loader draws


@pytest.mark.parametrize("received", range(7))
def test_a_loader_continues_with_the_batches_not_yet_received(received):
    reference = loader()
    expected = [epoch(reference) for _ in range(3)]
    first = loader()
    iterator = iter(first)
    for _ in range(received):
        next(iterator)
    state = first.state_dict()
    assert state == {"epoch": 0, "received": received}
    second = loader()
    second.load_state_dict(state)
    continued = [epoch(second) for _ in range(2)]
    if received == 6:  # at the end of an epoch the next one follows
        assert continued == expected[1:]
    else:
        assert continued == [expected[0][received:], expected[1]]


def test_workers_give_the_same_batches_and_the_state_counts_those_received():
    reference = loader()
    expected = [epoch(reference) for _ in range(2)]
    source = Counted()
    first = ResumableLoader(source, SIZE, seed=0, shuffle=True, num_workers=2)
    iterator = iter(first)
    for _ in range(2):
        next(iterator)
    state = first.state_dict()
    assert state == {"epoch": 0, "received": 2}
    deadline = time.monotonic() + 10
    while source.reads.value <= 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert source.reads.value > 2  # the control: workers have read ahead of the loop
    second = loader(num_workers=2)
    second.load_state_dict(state)
    assert [epoch(second), epoch(second)] == [expected[0][2:], expected[1]]


def test_a_state_is_that_of_the_epoch_it_was_taken_in():
    reference = loader()
    expected = [epoch(reference) for _ in range(4)]
    first = loader()
    epoch(first), epoch(first)
    assert first.state_dict() == {"epoch": 1, "received": 6}
    iterator = iter(first)
    next(iterator), next(iterator)
    assert first.state_dict() == {"epoch": 2, "received": 2}
    second = loader()
    second.load_state_dict(first.state_dict())
    assert [epoch(second), epoch(second)] == [expected[2][2:], expected[3]]
    assert second.state_dict() == {"epoch": 3, "received": 6}


def test_a_state_survives_a_second_interruption_in_the_same_epoch():
    expected = epoch(loader())
    state = {"epoch": 0, "received": 0}
    seen = []
    for _ in range(6):
        batches = loader()
        batches.load_state_dict(state)
        seen += epoch([next(iter(batches))])
        state = batches.state_dict()
    assert seen == expected


@pytest.mark.parametrize("size", [0, -1])
def test_empty_batches_are_refused(size):
    with pytest.raises(ValueError, match=f"batch_size={size} must be at least 1"):
        ResumableLoader(Numbers(), size, seed=0, shuffle=True)


def test_a_batch_larger_than_the_source_is_the_whole_source():
    batches = ResumableLoader(Numbers(3), 8, seed=0, shuffle=True)
    assert [sorted(batch) for batch in epoch(batches)] == [[0, 1, 2]]
