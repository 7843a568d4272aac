"""The buffer of trajectories: which ones are drawn and evicted, which pairs of times, that these
are bitwise the windows of the stored solutions, and what it takes.
"""

from math import gamma

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from datasets.schema import Field, Metadata
from datasets.stream import Pairs, Reservoir
from datasets.stream.events import Frame
from datasets.stream.intake import StudyFailed
from datasets.stream.template import Template
from datasets.stream.whole import WholeTrajectories
from datasets.stream.window_draws import WindowDraws
from datasets.stream.window_table import WindowTable
from datasets.windows import Windows
from sciml.evaluation.stream import section, waiting
from solvers.grid import Grid
from tests.helpers import compose
from tests.lockstep import Lockstep, columns
from tests.streams import generated, online
from tests.test_stream_samples import one_by_one, rows  # noqa: F401

T = 9
PAIRS = ("online/buffer=pairs", "online.buffer.capacity=6", "online.clients=3")
EVEN = gamma(5 / 3) / gamma(4 / 3) ** 2 - 1  # variance of uses over the square of their mean
WINDOWS = {
    "pairs of times": {"stride": (1, T - 1)},
    "one lead time": {},
    "a map of the time": {"history": 0, "first": 1},
    "several frames": {"history": 2, "horizon": 3, "stride": (1, 2)},
    "some frames": {"first": 1, "last": 7, "every": 2, "stride": (2, 4)},
    "a field that is given": {"given": ("v",), "horizon": 2, "stride": (1, 3)},
    "no numbers": {"parameters": False, "stride": (1, 3)},
}


class Stored:
    """Random solutions of two fields, with a constant field and a parameter (`Trajectories`)."""

    def __init__(self, count: int, *, constant: bool = True, seed: int = 0):
        chance = np.random.default_rng(seed)
        grid = Grid.box((4, 5), boundary="periodic")
        self.metadata = Metadata(
            "stored",
            (Field("a"),) if constant else (),
            (Field("u"), Field("v", components=2)),
            grid,
            ("nu",),
            dt=0.3,
            num_frames=T,
        )
        draw = lambda *shape: chance.standard_normal((count, *shape), dtype=np.float32)  # noqa: E731
        self.u, self.a, self.nu = draw(T, 3, 4, 5), draw(int(constant), 4, 5), draw(1)

    def __len__(self) -> int:
        return len(self.u)

    def times(self, index):
        return np.arange(T) * 0.3

    def read(self, index, frames):
        return torch.from_numpy(self.u[index, frames])

    def constants(self, index):
        return torch.from_numpy(self.a[index])

    def parameters(self, index):
        return torch.from_numpy(self.nu[index])

    def frames(self, index, lane=0):
        """As a solver sends them."""
        for k in range(T):
            head = (self.a[index], self.nu[index].astype(float)) if k == 0 else ()
            yield Frame(lane, index, k, self.u[index, k], *head)


def held(stored: Stored, window, capacity: int = 8):
    """A storage with solution i in row i."""
    whole, policy = WholeTrajectories(stored.metadata, window), started(Pairs(capacity))
    storage = whole.storage(policy)
    for i in range(len(stored)):
        for frame in stored.frames(i):
            whole.add(frame, live=True)
        block, simulations, _ = whole.take(1)
        storage.put(simulations, block)
    return whole, storage


def started(policy, **settings):
    policy.start(**{"batch_size": 8, "reuse": 4, "samples": 100, "seed": 0} | settings)
    return policy


def table(**window) -> WindowTable:
    return WindowTable(Windows(Template(Stored(0).metadata), **window))


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
def test_windows_are_bitwise_those_of_the_stored_solutions(window, constant):
    stored = Stored(5, constant=constant)
    windows = Windows(stored, **window)
    whole, storage = held(stored, window)
    assert whole.metadata == windows.metadata and whole.per_item * 5 == len(windows)
    numbers = np.random.default_rng(1).permutation(len(windows))
    batch = whole.batch(storage.windows(*np.divmod(numbers, whole.per_item)))
    expected = windows.__getitems__(numbers)
    for one, other in zip(batch, expected, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert batch.target.is_contiguous()
    drawn = np.array([4, 0, 0, 2])
    known = set(rows(windows.__getitems__(range(len(windows)))))
    assert set(rows(whole.batch(storage.get(drawn)))) <= known


@pytest.mark.parametrize(
    "window",
    ["{history: 1, stride: [1, 6]}", "{history: 0, first: 1}", "{history: 2, stride: [1, 2]}"],
)
def test_a_stream_holds_the_windows_of_the_stored_solutions(tmp_path, window):
    window = f"data.window={window}"
    stored = generated(tmp_path, window).source("train")
    streamed = online(tmp_path, window, *PAIRS)
    known = set(rows(stored.__getitems__(range(len(stored)))))
    assert streamed.source("train").metadata == stored.metadata
    each, drawn = len(stored) // 10, []
    assert streamed.loader().steps == 4 * 10 * each // 4
    for batch in streamed.loader():
        drawn += [(i, row) for i, row in zip(streamed.stream.simulations, rows(batch), strict=True)]
    assert {row for _, row in drawn} <= known and len(drawn) == 40 * each
    by_simulation = [
        set(rows(stored.__getitems__(range(i * each, i * each + each)))) for i in range(10)
    ]
    assert all(row in by_simulation[i] for i, row in drawn)
    assert {i for i, _ in drawn} == set(range(10))


def test_an_output_is_good_until_the_call_after_the_next():
    whole, storage = held(Stored(5), {})
    kept = storage.get(np.array([0, 1]))
    first = {name: part.clone() for name, part in kept.items()}
    storage.get(np.array([2, 3]))
    assert all(torch.equal(part, kept[name]) for name, part in first.items())
    again = storage.get(np.array([4, 4]))
    assert again["input"].data_ptr() == kept["input"].data_ptr()


@pytest.mark.parametrize(
    "window, kept", [({"stride": (1, T - 1)}, T), ({"first": 2, "last": 6}, 4)]
)
def test_memory_is_that_of_the_frames(window, kept):
    whole = WholeTrajectories(Stored(0).metadata, window)
    storage = whole.storage(started(Pairs(50)))
    size = sum(part.element_size() * part.numel() for part in storage.parts.values())
    assert size == 50 * 4 * (kept * 3 * 20 + 20 + 1)


@pytest.mark.parametrize("count", [1, 5, 8, 32])
def test_all_lead_times_are_drawn_equally_often(count):
    chosen = table(stride=(1, T - 1))
    draws = WindowDraws(chosen, np.random.default_rng(0))
    lead = np.round(chosen.clock / 0.3).astype(int) - 1
    counts = np.zeros(T - 1, int)
    for _ in range(50):
        counts += np.bincount(lead[draws.draw(count)], minlength=T - 1)
        assert np.ptp(counts) <= 1


def test_first_frames_are_uniform_for_every_lead_time():
    chosen = table(stride=(1, T - 1))
    drawn = WindowDraws(chosen, np.random.default_rng(0)).draw(8 * 4000)
    counts = np.bincount(drawn, minlength=len(chosen))
    expected = 4000 / np.repeat(chosen.counts, chosen.counts)
    assert chisquare(counts, expected, ddof=7).pvalue > 0.01
    other = np.random.default_rng(0).integers(len(chosen), size=8 * 4000)  # the control
    assert chisquare(np.bincount(other), expected, ddof=7).pvalue < 1e-6


def test_times_are_uniform_where_no_frame_goes_in():
    chosen = table(history=0, first=1)
    counts = np.bincount(WindowDraws(chosen, np.random.default_rng(0)).draw(8000))
    assert len(counts) == T - 1 and chisquare(counts).pvalue > 0.01


def test_a_trajectory_is_drawn_and_evicted_by_its_past_use():
    uses = np.array([-1, 0, 1, 2, 5, 9, 20, -1])
    policy, found = started(Pairs(8)), {"draw": [], "insert": []}
    for _ in range(6000):
        policy.set_rows({"uses": uses.tolist()})
        found["draw"].append(policy.draw(1, None)[0])
        policy.set_rows({"uses": np.where(uses < 0, 0, uses).tolist()})
        found["insert"].append(policy.insert(1)[0][0])
    for what, weights in (
        ("draw", (uses >= 0) / (1 + uses.clip(0))),
        ("insert", uses.clip(0)),
    ):
        counts, p = np.bincount(found[what], minlength=8), weights / weights.sum()
        assert (counts[p == 0] == 0).all()
        assert chisquare(counts[p > 0], 6000 * p[p > 0]).pvalue > 0.01


@pytest.mark.parametrize("stored", [1, 3, 8, 30])
def test_no_trajectory_comes_again_before_the_others(stored):
    policy = started(Pairs(30))
    policy.insert(stored)
    for _ in range(50):
        counts = np.bincount(policy.draw(8, None), minlength=30)
        assert counts.sum() == 8 and np.ptp(counts[:stored]) <= 1 and not counts[stored:].any()


def test_trajectories_are_used_evenly():
    """Against draws and evictions that are uniform: variances over the squared mean R^2."""
    found = {}
    for kind in (Pairs, Reservoir):
        played = Lockstep(kind(100), samples=2600, batch_size=4, reuse=40).run()
        gone = columns(played.gone)
        settled = (gone["sample"] > 400) & (gone["sample"] < 2000)
        uses = gone["uses"][settled]
        assert uses.mean() == pytest.approx(40, rel=0.04)
        assert gone["age"][settled].mean() == pytest.approx(100, rel=0.05)
        found[kind] = uses.var() / 40**2
        if kind is Pairs:
            assert (gone["age"][settled] > 200).mean() == pytest.approx(0.09, abs=0.02)
    assert found[Pairs] == pytest.approx(EVEN, rel=0.15)
    assert found[Reservoir] == pytest.approx(1, rel=0.15)


def test_a_new_trajectory_does_not_fill_the_next_batch():
    """As it would by independent draws of the same probabilities."""
    policy = started(Pairs(64), reuse=400)
    policy.set_rows({"uses": [0] + [400] * 63})
    assert (policy.draw(32, None) == 0).sum() <= 1
    weights = 1 / (1 + np.array([0] + [400] * 63))
    assert weights[0] / weights.sum() > 0.8


def test_steps_are_known_and_few_draws_are_enough(tmp_path):
    window = "data.window={history: 1, stride: [1, 6], first: 0}"  # 21 windows
    streamed = online(tmp_path, window, *PAIRS, "online.reuse=0.2")
    assert streamed.loader().steps == 0.2 * 10 * 21 // 4 == sum(1 for _ in streamed.loader())
    status = streamed.stream.status()
    assert status["reuse"] == pytest.approx(0.2, abs=0.01) and status["arrived"] == 10
    assert streamed.described()["reuse"] == 0.2


def test_the_training_split_is_some_windows_of_what_is_there(tmp_path, monkeypatch):
    window = "data.window={history: 1, stride: [1, 6], first: 0}"
    stored = generated(tmp_path, window).source("train")
    known = set(rows(stored.__getitems__(range(len(stored)))))
    beginning = online(tmp_path, window, *PAIRS).source("train")
    assert len(beginning) == 5 * 21
    found = rows(beginning.__getitems__(range(105)))
    assert set(found) <= known and len(set(found)) == 105
    monkeypatch.setattr("datasets.stream.trajectory_storage.FIRST", 8)
    fewer = online(tmp_path, window, *PAIRS).source("train")
    found = rows(fewer.__getitems__(range(40)))
    assert len(fewer) == 40 and set(found) <= known and len(set(found)) == 40


def test_a_simulation_that_is_left_out_gives_nothing(tmp_path):
    faults = ("online/faults=raises", "online.tolerate=0.2")  # 1 and 5
    streamed = online(tmp_path, *PAIRS, *faults)
    drawn = [i for _ in streamed.loader() for i in streamed.stream.simulations]
    assert set(drawn) == {0, 2, 3, 4, 6, 7, 8, 9}
    assert len(drawn) == 4 * streamed.loader().steps == 240
    assert streamed.stream.status()["arrived"] == 8


def test_a_study_of_which_no_solution_is_whole_ends_with_advice(tmp_path):
    raises = ("online/faults=raises", "online.faults.raises=[0,1,2,3,4,5,6,7,8,9]")
    streamed = online(tmp_path, *PAIRS, *raises, "online.tolerate=1")
    with pytest.raises(StudyFailed, match=r"none of the 10 trajectories came: 10 sim.*tolerate=0"):
        len(streamed.source("train"))


def test_trajectories_that_wait_are_a_part_of_the_state():
    stored = Stored(3)
    first, second = (WholeTrajectories(stored.metadata, {}) for _ in range(2))
    for frames in zip(*(stored.frames(i, lane=i) for i in range(3)), strict=True):
        for frame in frames:
            first.add(frame, live=frame.simulation != 1)  # 1 was counted before
    assert len(first) == 2
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        (one, simulation, last), (other, again, _) = first.take(1), second.take(1)
        assert simulation == again and last == T - 1
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_units_are_named(tmp_path):
    streamed = online(tmp_path, *PAIRS)
    for _ in streamed.loader():
        pass
    stream = streamed.stream
    curves = {key: [value, value] for key, value in stream.status().items()} | {"seconds": [0, 1]}
    record = {
        **streamed.described(),
        "status": stream.status() | {"seconds": 1.0},
        "curves": curves,
        "uses": stream.buffer.uses.tolist(),
        "left_out": [],
    }
    shown = dict(section(record)["rows"])
    assert shown["Trajectories"] == "10 of 10" and shown["First step after"] == "5 trajectories"
    assert shown["Buffer"] == "Pairs, 6 trajectories of 6 windows each"
    assert shown["Draws per window"].startswith("4") and "Draws of a trajectory" in shown
    assert "trajectories per second" in waiting.__wrapped__(record).axes[1].get_ylabel()
    record["unit"] = "samples"
    assert "Samples" in dict(section(record)["rows"])


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["online.clients=7"], "capacity=6 is too small for 7 clients: .* hold 7 trajectories"),
        (["online.watermark=7"], "watermark=7: the buffer holds 6 trajectories; lower"),
        (["online.watermark=11"], "watermark=11: only 10 trajectories will ever arrive; lower it"),
        (["online.reuse=0.1"], "0.6 draws per trajectory, which are .* raise online.reuse"),
    ],
)
def test_what_cannot_work_is_said_with_advice(tmp_path, overrides, message):
    with pytest.raises(ValueError, match=message):
        online(tmp_path, *PAIRS, *overrides)


def test_a_steady_map_is_refused(tmp_path):
    darcy = ("data=darcy", "data.resolution=12")
    with pytest.raises(ValueError, match="darcy.* is a steady map, .* online/buffer=reservoir"):
        online(tmp_path, *PAIRS, problem=darcy)


def test_a_batch_needs_as_many_windows(tmp_path):
    with pytest.raises(
        ValueError, match="6 trajectories have 36 windows, not a batch of 40; raise"
    ):
        online(tmp_path, *PAIRS, batch_size=40)


def test_a_batch_may_be_larger_than_the_buffer(tmp_path):
    sizes = {len(b.target) for b in online(tmp_path, *PAIRS, batch_size=16).loader()}
    assert sizes == {16}


def test_the_configuration_is_that_of_trajectories():
    assert compose(["online=local", "online/buffer=pairs"]).online.buffer.capacity == 64
