"""What hangs or crashes is given up, and the caller lives on."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from datasets import quarantine
from datasets.check import Finding, check
from datasets.quarantine import Stuck, apart
from tests.helpers import ROOT
from tests.tiny_recipe import make_tiny


def count(number: int) -> Iterator[int]:
    yield from range(number)


def hang(number: int) -> Iterator[int]:
    yield number
    time.sleep(3600)


def crash(number: int) -> Iterator[int]:
    yield number
    os.abort()


def fail(number: int) -> Iterator[int]:
    yield number
    raise ZeroDivisionError("a defect")


def who(number: int) -> Iterator[int]:
    yield os.getpid()


def test_it_is_another_process():
    assert list(apart(who, 0)) != [os.getpid()]


def test_all_that_is_yielded_arrives_in_order():
    assert list(apart(count, 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "work, expected",
    [
        (hang, r"no answer for 1 s: the file may be damaged"),
        (crash, r"ended with exit code -6: the file may be damaged"),
        (fail, r"ZeroDivisionError: a defect"),
    ],
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


def test_a_stuck_file_is_a_finding_after_those_that_came(tmp_path, monkeypatch):
    def stuck(*arguments):
        yield Finding("failed", "x.h5", "NaN")
        raise Stuck("no sign of life")

    monkeypatch.setattr("datasets.check.apart", stuck)
    found = [("failed", "x.h5", "NaN"), ("failed", "x.h5", "no sign of life")]
    assert check(tmp_path / "x.h5") == found


def test_a_program_that_cannot_be_started_again_is_told_so(tmp_path):
    """A script without a guard runs again in the new process, which multiprocessing refuses."""
    shard = make_tiny(tmp_path) / "data/test/shard-00000.h5"
    script = tmp_path / "script.py"
    script.write_text(f"from datasets.check import check\nprint(check({str(shard)!r}))\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "could not start; call this from a module" in done.stdout
