"""The order of arrivals: a function of the study alone, whoever computes it."""

import os
import signal
from pathlib import Path

import pytest

from datasets.stream import Inproc, Local
from datasets.stream.rota import Rota
from tests.streams import arrivals, study


@pytest.fixture(scope="module")
def expected():
    return arrivals(study())


def test_every_frame_arrives_once(expected):
    assert sorted((i, k) for i, k, _ in expected) == [(i, k) for i in range(10) for k in range(7)]


def test_lanes_take_turns_and_begin_one_after_another(expected):
    """Four lanes of seven frames begin 0, 1, 3 and 5 ticks late; after 0 comes simulation 4."""
    first = [(i, k) for i, k, _ in expected[:12]]
    assert first == [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (0, 3), (1, 2), (2, 0)] + [
        (0, 4),
        (1, 3),
        (2, 1),
        (0, 5),
    ]
    place = [(i, k) for i, k, _ in expected].index((4, 0))
    assert expected[place - 1][:2] == (3, 1) and (0, 6) in [e[:2] for e in expected[:place]]


def test_without_stagger_all_begin_together():
    found = [(i, k) for i, k, _ in arrivals(study(stagger=False))]
    assert found[:8] == [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (1, 1), (2, 1), (3, 1)]


def test_turns_of_some_lanes_are_a_part_of_the_turns_of_all():
    made, whole, part = study(), [], []
    for lanes, turns in ((None, whole), ([1, 3], part)):
        rota = Rota(made, lanes)
        for _ in range(60):
            turns.append((rota.tick, rota.turn()))
            turns[-1] = (rota.tick, rota.lane)
            rota.next()
    assert [turn for turn in whole if turn[1] in (1, 3)] == part[: len(part) // 2][
        : len([turn for turn in whole if turn[1] in (1, 3)])
    ]


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "workers, slots", [(2, 3), pytest.param(1, 1, marks=SLOW), pytest.param(3, 32, marks=SLOW)]
)
def test_processes_deliver_what_one_process_computes(expected, workers, slots):
    assert arrivals(study(), Local(workers, slots)) == expected


def test_out_of_order_every_frame_arrives_once_too(expected):
    assert sorted(arrivals(study(), Local(2, 2), ordered=False)) == sorted(expected)
    assert arrivals(study(), Inproc(), ordered=False) == expected


@pytest.mark.parametrize("ordered", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_killed_workers_cost_nothing(expected, ordered):
    """Neither in order nor out of it is a frame lost or counted twice, and no process is left."""
    engine, killed = Local(2, 4), []

    def kill(count):
        if count in (1, 20):
            killed.append(engine.pids()[count % 2])
            os.kill(killed[-1], signal.SIGKILL)

    found = arrivals(study(), engine, every=kill, ordered=ordered)
    assert (found if ordered else sorted(found)) == (expected if ordered else sorted(expected))
    assert len(killed) == 2 and not any(Path(f"/proc/{pid}").exists() for pid in killed)
