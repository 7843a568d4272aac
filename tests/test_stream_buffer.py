"""Rows of samples and what is counted about them, against plain lists and a recount."""

import copy
import io

import numpy as np
import pytest
import torch

from datasets.stream import (
    BatchReservoir,
    Fifo,
    Firo,
    History,
    HistoryStored,
    Pairs,
    Quota,
    Reservoir,
)
from datasets.stream.buffer import Buffer
from datasets.stream.limiter import Limiter
from datasets.stream.storage import Storage

PARTS = {"target": (2, 3), "numbers": (4,), "scalar": ()}
POLICIES = [(Fifo, 1), (Firo, 1), (Reservoir, 3), (BatchReservoir, 3), (Quota, 3), (History, 4)]
POLICIES += [(Pairs, 3)]
POLICIES += [(HistoryStored, 4)]
every = pytest.mark.parametrize("kind, reuse", POLICIES, ids=lambda v: getattr(v, "__name__", ""))


def random_block(chance, count):
    return {n: chance.random((count, *shape), dtype=np.float32) for n, shape in PARTS.items()}


def block_of(numbers):
    """Samples that hold their number."""
    wide = {n: np.ones((len(numbers), *shape), np.float32) for n, shape in PARTS.items()}
    return {n: ones * np.reshape(numbers, (-1, *[1] * (ones.ndim - 1))) for n, ones in wide.items()}


def some_rows(chance, capacity):
    """Distinct rows: consecutive, wrapped around the end, ascending, falling, scattered or none."""
    count, start = int(chance.integers(capacity + 1)), int(chance.integers(capacity))
    scattered = chance.permutation(capacity)[:count]
    wrapped = np.arange(start, start + count) % capacity
    straight = np.arange(max(capacity - count, 0))
    kinds = [straight, wrapped, np.sort(scattered), straight[::-1].copy(), scattered]
    return kinds[chance.integers(5)].astype(np.int64)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("capacity", [1, 2, 17])
def test_storage_is_a_list_of_samples(capacity, seed):
    chance = np.random.default_rng(seed)
    storage = Storage(capacity, PARTS)
    plain = {n: [np.zeros(shape, np.float32)] * capacity for n, shape in PARTS.items()}
    for _ in range(80):
        rows = some_rows(chance, capacity)
        block = random_block(chance, len(rows))
        storage.put(rows, block)
        for name, values in block.items():
            for row, value in zip(rows, values, strict=True):
                plain[name][row] = value
        asked = chance.integers(capacity, size=chance.integers(1, 2 * capacity + 1))
        for drawn in (asked, some_rows(chance, capacity)):
            got = storage.get(drawn)
            assert list(got) == list(PARTS)
            for name, values in got.items():
                assert values.dtype == torch.float32 and values.shape[0] == len(drawn)
                for value, row in zip(values.numpy(), drawn, strict=True):
                    assert np.array_equal(value, plain[name][row])


def test_storage_keeps_no_hold_of_what_was_put():
    storage, block = Storage(3, PARTS), block_of([1.0, 2.0])
    storage.put(np.array([2, 0]), block)
    block["numbers"][:] = 7
    assert storage.get(np.array([0, 1, 2]))["scalar"].tolist() == [2, 0, 1]
    assert storage.get(np.array([0, 1, 2]))["numbers"][:, 0].tolist() == [2, 0, 1]


def test_a_batch_is_good_until_the_one_after_the_next():
    storage = Storage(4, PARTS)
    storage.put(np.arange(4), block_of([0.0, 1.0, 2.0, 3.0]))
    first = storage.get(np.array([0, 1]))
    second = storage.get(np.array([2, 3]))
    storage.get(np.array([3, 3, 3]))  # of another size: elsewhere
    storage.put(np.array([0, 1]), block_of([8.0, 9.0]))
    assert first["scalar"].tolist() == [0, 1] and second["scalar"].tolist() == [2, 3]
    third = storage.get(np.array([1, 1]))
    assert second["scalar"].tolist() == [2, 3] and third["scalar"].tolist() == [9, 9]
    assert first["scalar"].tolist() == [9, 9], "the third batch lies where the first one was"
    assert first["scalar"].data_ptr() == third["scalar"].data_ptr()
    assert storage.get(np.array([0, 0]))["scalar"].data_ptr() == second["scalar"].data_ptr()


class Recount:
    """All that a buffer counts, from a log of what went in and out."""

    def __init__(self, policy):
        self.policy, self.lives, self.came = policy, {}, 0
        self.gone = []  # draws and age of each
        self.insert, self.draw = policy.insert, policy.draw
        policy.insert, policy.draw = self._insert, self._draw

    def _insert(self, count):
        rows, which = self.insert(count)
        for row, k in zip(rows.tolist(), which.tolist(), strict=True):
            if row in self.lives:
                number, draws = self.lives[row]
                self.gone.append((draws, self.came + k - number))
            self.lives[row] = (self.came + k, 0)
        self.came += count
        return rows, which

    def _draw(self, count, left):
        rows = self.draw(count, left)
        for row in rows.tolist():
            number, draws = self.lives[row]
            self.lives[row] = (number, draws + 1)
        self.drawn = [self.lives[row][0] for row in rows.tolist()]
        return rows


def stream(kind, reuse, *, samples=700, capacity=60, seed=0):
    """A buffer and what it needs to be filled in step."""
    policy = kind(capacity)
    policy.start(batch_size=8, reuse=reuse, samples=samples, seed=seed)
    limiter = Limiter(samples, policy.watermark(), reuse, 8)
    return Buffer(Storage(capacity, PARTS), policy), limiter


def step(buffer, limiter, batch):
    """Put what is due, then the next batch; sample n has simulation n // 10 and frame n % 10."""
    count = min(limiter.arrived(batch) - buffer.came, buffer.room())
    numbers = np.arange(buffer.came, buffer.came + count)
    buffer.put(block_of(numbers.astype(np.float32)), numbers // 10, numbers % 10)
    over = buffer.came == limiter.samples
    return buffer.get(8, (limiter.steps - batch) * 8 if over else None)


@every
def test_counts_are_those_of_a_recount(kind, reuse):
    buffer, limiter = stream(kind, reuse)
    assert buffer.filled == 0 and buffer.unseen == 1 and np.isnan(buffer.mean_age)
    recount = Recount(buffer.policy)
    for batch in range(limiter.steps):
        parts, simulations = step(buffer, limiter, batch)
        assert parts["scalar"].tolist() == recount.drawn
        assert (parts["target"] == parts["scalar"].view(-1, 1, 1)).all()
        assert simulations.tolist() == [number // 10 for number in recount.drawn]
        assert buffer.came == recount.came
        assert buffer.filled == len(recount.lives)
        draws = [d for _, d in recount.lives.values()]
        assert buffer.unseen == pytest.approx(draws.count(0) / len(draws))
        assert buffer.uses.sum() == len(recount.gone)
        if recount.gone:
            uses, ages = zip(*recount.gone, strict=True)
            assert buffer.uses.tolist() == np.bincount(uses).tolist()
            assert buffer.mean_age == pytest.approx(np.mean(ages))
    assert len(recount.gone) > 500


def test_uses_are_counted_however_many_they_are():
    buffer, _ = stream(Reservoir, 3, capacity=8)
    numbers = np.arange(8)
    for _ in range(2):
        buffer.put(block_of(numbers), numbers, numbers)
        for _ in range(200):
            buffer.get(8)
    buffer.put(block_of(numbers), numbers, numbers)
    assert buffer.uses.sum() == 16 and (buffer.uses * np.arange(len(buffer.uses))).sum() == 3200
    assert buffer.mean_age == 8


@every
@pytest.mark.parametrize("at", [0, 1, 9, -3])
def test_a_saved_buffer_goes_on(kind, reuse, at):
    buffer, limiter = stream(kind, reuse)
    at %= limiter.steps
    for batch in range(at):
        step(buffer, limiter, batch)
    file = io.BytesIO()
    torch.save(buffer.state_dict(), file)
    file.seek(0)
    twin, _ = stream(kind, reuse, seed=5)
    twin.load_state_dict(torch.load(file, weights_only=True))
    for batch in range(at, limiter.steps):
        (one, of_one), (two, of_two) = step(buffer, limiter, batch), step(twin, limiter, batch)
        assert all(torch.equal(one[name], two[name]) for name in PARTS)
        assert np.array_equal(of_one, of_two)
    for name in ("came", "filled", "unseen", "mean_age"):
        assert getattr(buffer, name) == getattr(twin, name)
    assert np.array_equal(buffer.uses, twin.uses)


def test_a_loaded_buffer_shares_nothing_with_the_state():
    buffer, limiter = stream(Reservoir, 3)
    for batch in range(20):
        step(buffer, limiter, batch)
    state = copy.deepcopy(buffer.state_dict())
    twin, _ = stream(Reservoir, 3)
    for _ in range(2):  # the second time after the first one has gone on
        twin.load_state_dict(state)
        parts, _ = step(twin, limiter, 20)
        numbers = parts["scalar"].tolist()
    assert numbers == step(buffer, limiter, 20)[0]["scalar"].tolist()
