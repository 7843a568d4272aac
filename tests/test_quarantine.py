"""What hangs or crashes is given up, and the caller lives on."""

import os
import time
from collections.abc import Iterator

import pytest

from datasets import quarantine
from datasets.check import check
from datasets.quarantine import Stuck, apart
from tests.tiny_recipe import make_tiny


def count(number: int) -> Iterator[int]:
    yield from range(number)


def hang(number: int) -> Iterator[int]:
    yield number
    time.sleep(3600)


def crash(number: int) -> Iterator[int]:
    yield number
    os.abort()


def test_all_that_is_yielded_arrives_in_order():
    assert list(apart(count, 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "work, expected",
    [(hang, r"nothing came of reading it for 1 s"), (crash, r"ended the process \(exit code -6\)")],
)
def test_a_process_that_is_stuck_is_given_up(monkeypatch, work, expected):
    items = apart(work, 7)
    assert next(items) == 7  # the process has started, however long that took
    monkeypatch.setattr(quarantine, "PATIENCE", 1.0)
    with pytest.raises(Stuck, match=expected):
        next(items)


def test_a_file_is_checked_apart(tmp_path):
    """Whole path: a sound shard, and one whose bytes no longer are HDF5."""
    shard = make_tiny(tmp_path) / "data/test/shard-00000.h5"
    assert [finding.level for finding in check(shard)] == ["ok"]
    shard.write_bytes(shard.read_bytes()[:3000])
    (finding,) = check(shard)
    assert finding.level == "failed" and "shard-00000.h5" in finding.subject


def test_a_stuck_file_is_a_finding(tmp_path, monkeypatch):
    def stuck(*arguments):
        raise Stuck("no sign of life")
        yield

    monkeypatch.setattr("datasets.check.apart", stuck)
    assert check(tmp_path / "x.h5") == [("failed", "x.h5", "no sign of life")]
