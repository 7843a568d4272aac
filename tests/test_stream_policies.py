"""What buffers promise, on schedules of row numbers alone: laws of the stationary state, what is
never lost, and that a schedule goes on where it was saved.
"""

import copy
import io
import math

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

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
from datasets.stream.limiter import Limiter
from tests.lockstep import Lockstep, columns

CAPACITY, SAMPLES, BATCH = 1250, 25_600, 32
EVERY = [
    (Fifo, 1),
    (Firo, 1),
    (Reservoir, 3.5),
    (BatchReservoir, 3),
    (Quota, 3),
    (History, 4),
    (Pairs, 3.5),
    (HistoryStored, 4),
]
every = pytest.mark.parametrize("kind, reuse", EVERY, ids=lambda v: getattr(v, "__name__", ""))


def small(kind, reuse, **settings) -> Lockstep:
    """A schedule that is quick and has a remainder in everything."""
    options = {"samples": 1003, "batch_size": 8, "reuse": reuse, "seed": 3} | settings
    return Lockstep(kind(101), **options)


class Careless(Reservoir):
    """Evicts anything, as a ring buffer would at random."""

    def vacate(self) -> int:
        if self._free:
            return self._free.pop()
        stored = [*self._seen.to_list(), *self._unseen.to_list()]
        row = stored[int(self.random.random() * len(stored))]
        (self._seen if row in self._seen else self._unseen).remove(row)
        return row


class Passes(Quota):
    """Draws by shuffled passes through what is stored, not uniformly."""

    _pass: tuple[int, ...] = ()

    def watermark(self) -> int:
        return self.capacity

    def draw(self, count: int, left: int | None) -> np.ndarray:
        drawn = []
        for _ in range(count):
            self._pass = self._pass or tuple(self.random.permutation(self._live.to_list()).tolist())
            row, self._pass = self._pass[0], self._pass[1:]
            self._left[row] -= 1
            if self._left[row] == 0:
                self._live.remove(row)
                self._free.give(row)
            drawn.append(row)
        return np.array(drawn)


@pytest.mark.parametrize("r", [2, 4, 8])
def test_reservoir_is_stationary_as_it_says(r):
    capacity = 500
    played = Lockstep(Reservoir(capacity), samples=SAMPLES, batch_size=8, reuse=r).run()
    steady = slice(5 * capacity * r // 8, (SAMPLES - 2 * capacity) * r // 8)
    assert np.mean(played.unseen[steady]) == pytest.approx(1 / r, rel=0.03)
    gone = columns(played.gone)
    ages = gone["age"][5 * capacity :]
    assert ages.mean() == pytest.approx(capacity, rel=0.07)
    # Of those that came early enough for all of them to be gone by the end.
    uses = gone["uses"][(gone["sample"] > 5 * capacity) & (gone["sample"] < 36 * capacity)]
    assert len(uses) > 30 * capacity
    assert uses.mean() == pytest.approx(r, rel=0.1)
    assert uses.var() == pytest.approx(r * (r - 1), rel=0.1)
    assert (uses == 1).mean() == pytest.approx(1 / r, rel=0.05)


@pytest.mark.parametrize("r", [1, 2, 4, 8])
def test_quota_draws_every_sample_equally_often(r):
    played = Lockstep(Quota(CAPACITY), samples=SAMPLES, batch_size=BATCH, reuse=r).run()
    assert (played.counts == r).all() and len(played.counts) == SAMPLES
    assert np.concatenate(played.drawn).size == r * SAMPLES
    gone = columns(played.gone)
    assert (gone["uses"] == r).all()
    assert gone["age"][3 * CAPACITY :].mean() == pytest.approx(CAPACITY, rel=0.07)
    if r > 1:
        steady = slice(5 * CAPACITY * r // BATCH, -2 * CAPACITY * r // BATCH)
        assert np.mean(played.unseen[steady]) == pytest.approx(1 / r, rel=0.06)


def test_fifo_gives_each_once_in_order():
    played = Lockstep(Fifo(CAPACITY), samples=SAMPLES, batch_size=BATCH, reuse=1).run()
    assert np.array_equal(np.concatenate(played.drawn), np.arange(SAMPLES))


@pytest.mark.parametrize("threshold", [None, 1, 700])
def test_firo_gives_each_once_from_a_population_at_its_threshold(threshold):
    policy = Firo(CAPACITY, threshold)
    played = Lockstep(policy, samples=SAMPLES, batch_size=BATCH, reuse=1)
    expected = CAPACITY - BATCH if threshold is None else threshold
    played.step()
    while played.inserted < SAMPLES:
        assert played.inserted - BATCH * len(played.drawn) == expected
        played.step()
    played.run()
    assert np.array_equal(np.sort(np.concatenate(played.drawn)), np.arange(SAMPLES))


def test_firo_keeps_samples_for_as_long_as_its_threshold():
    played = Lockstep(Firo(CAPACITY), samples=SAMPLES, batch_size=BATCH, reuse=1).run()
    came = np.minimum(SAMPLES, CAPACITY + BATCH * np.arange(len(played.drawn)))
    ages = came[:, None] - np.stack(played.drawn)
    steady = ages[5 * CAPACITY // BATCH : -2 * CAPACITY // BATCH]
    assert steady.mean() == pytest.approx(CAPACITY, rel=0.05)
    assert steady.std() == pytest.approx(CAPACITY, rel=0.1)


@pytest.mark.parametrize("kind", [Fifo, Firo, Reservoir, BatchReservoir, Quota, History, Pairs])
def test_nothing_leaves_unseen(kind):
    reuse = 1 if kind in (Fifo, Firo) else 4
    played = Lockstep(kind(320), samples=6400, batch_size=BATCH, reuse=reuse).run()
    gone = columns(played.gone)
    recent = gone["row"] < (160 if kind is History else 320)
    assert (gone["uses"][recent] >= 1).all()
    assert recent.sum() > 6000


def test_what_evicts_anything_loses_samples():
    played = Lockstep(Careless(320), samples=6400, batch_size=BATCH, reuse=4).run()
    # Each row is drawn with rate r / C between insertions of rate 1 / C: 1 / (1 + r) see no draw.
    assert (columns(played.gone)["uses"] == 0).mean() == pytest.approx(1 / 5, rel=0.1)


@pytest.mark.parametrize("kind", [Reservoir, Quota, History])
@pytest.mark.parametrize("r", [4, 8])
def test_samples_come_in_at_an_even_pace(kind, r):
    played = Lockstep(kind(CAPACITY), samples=SAMPLES, batch_size=BATCH, reuse=r).run()
    assert played.longest_gap <= (2 * BATCH if kind is Quota else BATCH)
    assert max(played.inserts[1:]) <= 3 * BATCH


def test_passes_through_the_buffer_stall_the_solvers():
    r = 4
    played = Lockstep(Passes(CAPACITY), samples=SAMPLES, batch_size=BATCH, reuse=r).run()
    assert (played.counts == r).all()
    assert played.longest_gap == pytest.approx((r - 1) * CAPACITY, rel=0.1)


@pytest.mark.parametrize(
    "kind, r", [(Reservoir, 2), (Reservoir, 3.5), (History, 4), (History, 7), (Pairs, 2)]
)
@pytest.mark.parametrize("seed", range(3))
def test_nothing_stays_unused(kind, r, seed):
    played = Lockstep(kind(320), samples=6413, batch_size=BATCH, reuse=r, seed=seed).run()
    first_tier = np.array(played.rows) < (160 if kind is History else 320)
    used = np.array(played.drawn)[first_tier]
    assert np.array_equal(np.unique(used), np.arange(6413))


def test_unused_samples_are_drawn_bit_by_bit():
    """With n draws since the last sample came and r C in all, u' = -u / C - u / (r C - n)."""
    r, ends = 4, []
    for seed in range(8):
        played = Lockstep(Reservoir(1280), samples=12800, batch_size=BATCH, reuse=r, seed=seed)
        ends.append(played.run().unseen[-160:])  # r C / B batches
    u = np.mean(ends, axis=0)
    n = (np.arange(160) + 0.5) / 40  # in units of C
    expected = np.exp(-n) * (1 - n / r) / r
    assert u == pytest.approx(expected, abs=0.008)
    assert u[0] == pytest.approx(1 / r, rel=0.05) and u[-1] < 1e-3


def test_blocks_stay_together():
    played = Lockstep(BatchReservoir(CAPACITY), samples=SAMPLES, batch_size=BATCH, reuse=4).run()
    starts = np.stack(played.drawn)[:, 0]
    assert np.array_equal(np.stack(played.drawn), starts[:, None] + np.arange(BATCH))
    assert (starts % BATCH == 0).all()
    uses = np.bincount(starts // BATCH)
    assert uses.min() >= 1 and uses.mean() == 4
    assert uses[:600].var() == pytest.approx(12, rel=0.35)


@pytest.mark.parametrize("came", [CAPACITY // 2, 2 * CAPACITY, SAMPLES])
def test_the_second_tier_is_a_uniform_sample_of_all_that_came(came):
    counts, bins = np.zeros(10), 10
    for seed in range(4):
        played = Lockstep(
            History(CAPACITY), samples=SAMPLES, batch_size=BATCH, reuse=4, seed=seed, came=came
        )
        while played.inserted < came:
            played.step()
        past = played.held[CAPACITY // 2 :]
        assert len(np.unique(past)) == len(past) == CAPACITY - CAPACITY // 2
        counts += np.bincount(past * bins // came, minlength=bins)
    if came > CAPACITY // 2:
        assert chisquare(counts).pvalue > 0.005


def test_the_second_tier_remembers_what_a_reservoir_has_forgotten():
    old = {}
    for kind in (Reservoir, History):
        played = Lockstep(kind(CAPACITY), samples=SAMPLES, batch_size=BATCH, reuse=4)
        while played.inserted < SAMPLES:
            played.step()
        old[kind] = (np.array(played.drawn[-60:]) < SAMPLES / 2).mean()
    assert old[Reservoir] < 0.001
    assert old[History] == pytest.approx(1 / 4, rel=0.1)


@pytest.mark.parametrize("came", [400, SAMPLES])
def test_half_of_a_batch_is_fresh(came):
    played = Lockstep(History(CAPACITY, 0.25), samples=SAMPLES, batch_size=BATCH, reuse=8)
    rows = np.stack(played.run(300).rows)
    assert (rows < round(0.25 * CAPACITY)).sum(1).tolist() == [BATCH // 4] * 300


@every
@pytest.mark.parametrize("at", [0, 7, 60, -40, -3])
def test_a_saved_schedule_goes_on(kind, reuse, at):
    played = small(kind, reuse)
    played.run(at % played.limiter.steps)
    file = io.BytesIO()
    torch.save(played.policy.state_dict(), file)
    file.seek(0)
    twin, twin.policy = copy.deepcopy(played), kind(101)
    twin.policy.start(batch_size=8, reuse=reuse, samples=1003, seed=99)
    twin.policy.load_state_dict(torch.load(file, weights_only=True))
    for played_batch, twin_batch in zip(played.run().rows, twin.run().rows, strict=True):
        assert np.array_equal(played_batch, twin_batch)
    assert played.gone == twin.gone


@every
def test_the_seed_decides(kind, reuse):
    first, again, other = (small(kind, reuse, seed=s).run() for s in (3, 3, 4))
    assert np.array_equal(first.drawn, again.drawn)
    assert np.array_equal(first.drawn, other.drawn) == (kind is Fifo)


@every
@pytest.mark.parametrize("seed", range(4))
def test_rows_are_kept_track_of_whatever_the_order(kind, reuse, seed):
    played = small(kind, reuse)
    policy, chance = played.policy, np.random.default_rng(seed)
    played.came = math.inf
    played.insert(16)
    for _ in range(400):
        room = policy.room()
        assert 0 <= room <= policy.capacity
        count = [0, 1, min(3, room), room, int(chance.integers(room + 1))][chance.integers(5)]
        count = min(count, room)
        rows = played.insert(count)
        assert rows.dtype == np.int64 and len(rows) >= count == len(np.unique(rows[:count]))
        assert _rows_by_state(policy.rows(), policy) == list(range(len(_all_rows(policy))))
        for _ in range(chance.integers(3)):
            drawn = played.draw(8)
            assert drawn.shape == (8,) and drawn.dtype == np.int64
            assert drawn.min() >= 0 and drawn.max() < policy.capacity
            assert (played.held[drawn] >= 0).all()
    gone = columns(played.gone)
    assert (gone["uses"][gone["row"] < (50 if kind is History else 101)] >= 1).all()


def _all_rows(policy) -> range:
    """Rows, or blocks of rows, of which each is in one of the lists of the state."""
    if isinstance(policy, BatchReservoir):
        return range(policy.capacity // policy.batch_size)
    return range(round(policy.fresh * policy.capacity) if isinstance(policy, History) else 101)


def _rows_by_state(state, policy) -> list[int]:
    """What the lists of the state hold together, in order."""
    if isinstance(policy, BatchReservoir):
        begun = {row // policy.batch_size for row in state["begun"]}
        state = {**state["blocks"], "begun": begun}
    if isinstance(policy, Pairs):
        return sorted(range(len(state["uses"])))
    state = state.get("recent", state)
    free = state["free"]["rows"] if isinstance(state["free"], dict) else state["free"]
    lists = (
        state.get(name, ()) for name in ("queue", "waiting", "live", "seen", "unseen", "begun")
    )
    return sorted([*free, *(row for rows in lists for row in rows)])


@every
@pytest.mark.parametrize("came", [1, 5, 90, 400, 1000])
def test_the_number_of_batches_stays_when_samples_are_missing(kind, reuse, came):
    played = small(kind, reuse, came=came).run()
    assert len(played.drawn) == played.limiter.steps
    assert {batch.shape for batch in played.drawn} == {(8,)}
    assert np.min(played.drawn) >= 0 and np.max(played.drawn) < came, "a row that holds nothing"
    if kind is not BatchReservoir:
        assert (played.counts >= 1).all()


@every
@pytest.mark.parametrize("samples", [8, 11, 15, 16, 40, 101])
def test_short_streams(kind, reuse, samples):
    played = small(kind, reuse, samples=samples).run()
    assert len(played.drawn) == samples * reuse // 8
    assert np.min(played.drawn) >= 0


def test_the_limiter_knows_the_steps_and_their_pace():
    limiter = Limiter(samples=1000, watermark=100, reuse=2.5, batch_size=16, epochs=10)
    assert limiter.steps == 10 * math.floor(2.5 * 1000 / 160)
    arrived = [limiter.arrived(k) for k in range(limiter.steps)]
    assert arrived == [min(1000, math.ceil(100 + (k + 1) * 6.4)) for k in range(limiter.steps)]


def started(policy, **settings):
    policy.start(**{"batch_size": 8, "reuse": 2, "samples": 100, "seed": 0} | settings)
    return policy


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Reservoir(0), r"online.buffer.capacity=0 must be at least 1"),
        (lambda: started(Reservoir(7)), r"capacity=7 holds no batch of 8; raise it, or lower"),
        (lambda: started(Fifo(20)), r"online.reuse=2: fifo gives .* once; set online.reuse=1"),
        (lambda: started(Firo(20)), r"online.reuse=2: firo gives .* once; set online.reuse=1"),
        (lambda: started(Firo(20, 13), reuse=1), r"threshold=13 must lie between 1 and 12"),
        (lambda: started(Firo(20, 0), reuse=1), r"threshold=0 must lie between 1 and 12"),
        (lambda: started(Reservoir(20), reuse=0.5), r"online.reuse=0.5: .* set at least 1"),
        (lambda: started(BatchReservoir(20), reuse=0.5), r"online.reuse=0.5: .* at least 1"),
        (lambda: started(BatchReservoir(15)), r"capacity=15 holds fewer than two batches of 8"),
        (lambda: started(Quota(20), reuse=2.5), r"online.reuse=2.5: .* set a whole number"),
        (lambda: started(Quota(20), reuse=0), r"online.reuse=0: .* at least 1"),
        (lambda: History(20, fresh=0), r"online.buffer.fresh=0 must lie between 0 and 1"),
        (lambda: History(20, fresh=1.0), r"online.buffer.fresh=1.0 must lie between 0 and 1"),
        (lambda: started(History(20, 0.01)), r"fresh=0.01 leaves one tier without a row"),
        (lambda: started(History(99, 0.99), reuse=9), r"or a sample of batch_size=8; move it"),
        (lambda: started(History(20), batch_size=1), r"or a sample of batch_size=1; move it"),
        (lambda: started(History(20), reuse=1.5), r"fresh=0.5 with reuse=1.5: .* raise fresh"),
        (lambda: started(History(20), batch_size=5), r"2 fresh samples in a batch of 5 are fewer"),
        (lambda: HistoryStored(20, fresh=0), r"online.buffer.fresh=0 must lie between 0 and 1"),
        (lambda: started(HistoryStored(20), batch_size=1), r"a sample of batch_size=1; move it"),
        (lambda: started(HistoryStored(20), reuse=1.5), r"with reuse=1.5: .* raise fresh"),
        (lambda: started(BatchReservoir(20)).draw(7, None), r"8 samples give no batch of 7"),
        (lambda: started(Pairs(20), reuse=0.9), r"0.9 draws per trajectory, .* raise online.reuse"),
        (lambda: Limiter(99, 100, 1, 8), r"watermark=100: only 99 .* ever arrive; lower it, or"),
        (lambda: Limiter(99, 0, 1, 8), "watermark=0 must be at least 1"),
        (lambda: Limiter(99, 9, 1, 100), r"do not fill 1 epochs .* of 100: lower trainer.max_epo"),
        (lambda: Limiter(99, 9, 2, 8, 25), r"2 times each do not fill 25 epochs"),
    ],
)
def test_what_cannot_be_is_said_with_advice(make, message):
    with pytest.raises(ValueError, match=message):
        make()
