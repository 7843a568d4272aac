"""Commits: a file is there as a whole or not at all, whatever happens on the way."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from datasets.manifest import NAME, Manifest
from datasets.reader import ShardedSource
from datasets.store import commit, file_sha256, locked, require_space, verify
from tests.tiny_recipe import content, make_tiny

COMMITS = 5 + 2
CALLS = 3 * COMMITS + 5


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return make_tiny(tmp_path_factory.mktemp("whole"))


def in_child(work) -> int:
    """Exit code of a forked process that runs `work`; negative when a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(start_child(work), 0)[1])


def start_child(work) -> int:
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return child


def at_call(number: int, happen):
    """Patches of os.fsync and os.replace: `happen` instead of the call with that number."""
    calls = iter(range(10_000))

    def counted(function):
        def call(*arguments):
            return happen() if next(calls) == number else function(*arguments)

        return call

    return (patch("os.fsync", counted(os.fsync)), patch("os.replace", counted(os.replace)))


def listed(root: Path) -> list[str]:
    """The shards that a reader would believe, all of which must be intact; [] before the
    manifest.
    """
    manifests = list(root.glob(f"*/{NAME}"))
    if not manifests:
        return []
    manifest = Manifest(manifests[0].parent)
    return [str(manifest.verify(shard)) for shard in manifest.shards]


def test_commit_replaces_whole_files_only(tmp_path):
    path = tmp_path / "file"
    commit(path, b"old")
    for number in range(3):
        fsync, replace = at_call(number, lambda: os._exit(9))

        def crash(fsync=fsync, replace=replace):
            with fsync, replace:
                commit(path, b"new")

        assert in_child(crash) == 9
        assert path.read_bytes() == (b"old" if number < 2 else b"new")
    commit(path, b"newest")
    assert path.read_bytes() == b"newest"


def test_without_the_protocol_a_crash_leaves_half_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def crash():
        with open(path, "wb") as file:
            file.write(b"ne")
            file.flush()
            os._exit(9)

    assert in_child(crash) == 9
    assert path.read_bytes() == b"ne"


def test_commit_cleans_up_and_names_what_the_disk_says(tmp_path):
    path = tmp_path / "file"
    with (
        patch("datasets.store.file_sha256", return_value="0"),
        pytest.raises(OSError, match="other"),
    ):
        commit(path, b"data")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", range(CALLS))
def test_a_crash_at_any_call_loses_nothing_and_is_continued(whole, tmp_path, number):
    """The process ends at the given fsync or rename of header, shards, list and statistics."""
    fsync, replace = at_call(number, lambda: os._exit(9))

    def crash():
        with fsync, replace:
            make_tiny(tmp_path)

    assert in_child(crash) == 9
    before = listed(tmp_path)
    folder = make_tiny(tmp_path)
    assert listed(tmp_path)[: len(before)] == before
    assert content(folder) == content(whole)


def test_the_crash_tests_cover_every_call(tmp_path):
    fsync, replace = at_call(CALLS, lambda: os._exit(9))

    def run():
        with fsync, replace:
            make_tiny(tmp_path)

    assert in_child(run) == 0


@pytest.mark.parametrize("number", range(0, CALLS, 3))
def test_an_error_at_any_call_is_raised_and_continued(whole, tmp_path, number):
    def fail():
        raise OSError(errno.EIO, "input/output error")

    fsync, replace = at_call(number, fail)
    with fsync, replace, pytest.raises(OSError, match="input/output error"):
        make_tiny(tmp_path)
    listed(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    assert content(make_tiny(tmp_path)) == content(whole)


def test_kill_9_at_any_time_is_continued(whole, tmp_path):
    """Ten times in a row, each process getting a little further."""

    def slow(folder, num_bytes):
        time.sleep(0.01)

    def work():
        with patch("datasets.shards.require_space", slow):
            make_tiny(tmp_path)

    before: list[str] = []
    for attempt in range(10):
        child = start_child(work)
        time.sleep(0.01 + 0.006 * attempt)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        now = listed(tmp_path)
        assert now[: len(before)] == before
        before = now
    assert content(make_tiny(tmp_path)) == content(whole)


@pytest.mark.parametrize("cut", [1, 2, 100, 400])
def test_a_torn_line_counts_as_never_written(whole, tmp_path, cut):
    folder = make_tiny(tmp_path)
    manifest = folder / NAME
    os.truncate(manifest, manifest.stat().st_size - cut)
    assert len(Manifest(folder).shards) == 4
    with pytest.raises(
        ValueError, match="0 of 3 test samples are there.*python -m datasets.generate"
    ):
        ShardedSource(folder, "test")
    assert content(make_tiny(tmp_path)) == content(whole)


@pytest.mark.parametrize("line", range(6))
def test_an_edited_lost_or_moved_line_is_noticed(tmp_path, line):
    folder = make_tiny(tmp_path)
    lines = (folder / NAME).read_text().splitlines(keepends=True)
    edited = lines.copy()
    record = json.loads(lines[line])
    record["seed"] = 4
    edited[line] = json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"
    damaged = {"edited": edited, "garbage": [*lines[:line], "{\n", *lines[line + 1 :]]}
    if line < 5:
        damaged["lost"] = lines[:line] + lines[line + 1 :]
        damaged["moved"] = [*lines[:line], lines[line + 1], lines[line], *lines[line + 2 :]]
    for text in damaged.values():
        (folder / NAME).write_text("".join(text))
        with pytest.raises(ValueError, match=rf"line {line + 1} was edited.*Delete {NAME}"):
            Manifest(folder)
    (folder / NAME).unlink()
    assert len(Manifest(make_tiny(tmp_path)).shards) == 5


def test_without_seals_an_edited_manifest_is_believed(tmp_path):
    with patch("datasets.manifest._seal", return_value=""):
        folder = make_tiny(tmp_path)
        text = (folder / NAME).read_text()
        (folder / NAME).write_text(text.replace('"test":3', '"test":0'))
        assert Manifest(folder).header.counts["test"] == 0


def test_a_damaged_shard_is_made_again_alone(whole, tmp_path):
    folder = make_tiny(tmp_path)
    shard = folder / "data/train/shard-00001.h5"
    intact = {p: p.stat().st_mtime_ns for p in folder.rglob("*.h5") if p != shard}
    shard.write_bytes(b"\x89HDF")
    make_tiny(tmp_path)
    assert content(folder) == content(whole)
    assert intact == {p: p.stat().st_mtime_ns for p in intact}


def test_a_shard_made_again_with_other_bytes_replaces_its_entry(whole, tmp_path):
    """As after an update of a library: the numbers agree up to rounding, the bytes do not."""
    folder = make_tiny(tmp_path)
    shard = folder / "data/train/shard-00001.h5"
    shard.unlink()
    with patch("datasets.layout.LIBVER", ("v108", "v108")):
        make_tiny(tmp_path)
    assert len(listed(tmp_path)) == 5
    changed = {name for name, data in content(whole).items() if content(folder)[name] != data}
    assert changed == {NAME, "data/train/shard-00001.h5"}


def test_a_full_disk_stops_with_one_line_and_keeps_what_is_there(whole, tmp_path):
    free = iter([10**9, 10**9, 15_000])
    usage = patch("datasets.store.shutil.disk_usage", lambda folder: _Usage(next(free)))
    with (
        usage,
        pytest.raises(OSError, match="0.0 MB are free.*2 of 5 shards are committed") as failure,
    ):
        make_tiny(tmp_path)
    assert failure.value.errno == errno.ENOSPC
    assert "\n" not in str(failure.value)
    assert len(listed(tmp_path)) == 2
    assert content(make_tiny(tmp_path)) == content(whole)


class _Usage:
    def __init__(self, free: int):
        self.free = free


def test_a_file_size_limit_stops_the_write_itself(whole, tmp_path):
    """RLIMIT_FSIZE: HDF5's own driver would report this on closing, with a file that cannot be
    read.
    """
    import resource

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_300, 10_300))
        with pytest.raises(OSError, match="File too large.*0 of 5 shards"):
            make_tiny(tmp_path)

    assert in_child(work) == 0
    assert listed(tmp_path) == []
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("*.h5"))
    assert content(make_tiny(tmp_path)) == content(whole)


def test_space_is_asked_for_twice(tmp_path):
    with patch("datasets.store.shutil.disk_usage", lambda folder: _Usage(1999)):
        require_space(tmp_path, 999)
        with pytest.raises(OSError, match="needs 0.0 MB"):
            require_space(tmp_path, 1000)


def test_verify_reads_a_file_once(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    digest = file_sha256(path)
    with patch("datasets.store.file_sha256", wraps=file_sha256) as hashed:
        verify(path, 3, digest, remedy="")
        verify(path, 3, digest, remedy="")
        assert hashed.call_count == 1
        os.utime(path, ns=(1, 1))
        verify(path, 3, digest, remedy="")
        assert hashed.call_count == 2
    with pytest.raises(ValueError, match=f"expected sha256 0+, found {digest}: altered. Do this"):
        verify(path, 3, "0" * 64, remedy="Do this")
    with pytest.raises(ValueError, match="expected 4 bytes, found 3"):
        verify(path, 4, digest, remedy="")
    with pytest.raises(ValueError, match="missing. Do this"):
        verify(tmp_path / "other", 3, digest, remedy="Do this")


def test_a_second_writer_waits_and_finds_the_work_done(whole, tmp_path, capfd):
    folder = make_tiny(tmp_path)
    shard = folder / "data/train/shard-00000.h5"
    shard.unlink()
    with locked(folder):
        child = start_child(lambda: make_tiny(tmp_path))
        time.sleep(0.3)
        assert not shard.exists()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert content(folder) == content(whole)
    assert "another process is writing; waiting" in capfd.readouterr().err


def test_another_data_set_under_the_name_is_refused(whole, tmp_path):
    other = make_tiny(tmp_path, threshold=2.0)
    other.rename(tmp_path / whole.name)
    with pytest.raises(ValueError, match="holds another data set.*move it out of the way"):
        make_tiny(tmp_path)


def test_a_folder_without_manifest_is_no_data_set(tmp_path):
    with pytest.raises(ValueError, match=f"no data set here.*{NAME} is missing"):
        Manifest(tmp_path)
    (tmp_path / NAME).write_bytes(b"")
    with pytest.raises(ValueError, match="not a manifest of format 1"):
        Manifest(tmp_path)


def test_a_script_whose_workers_would_wait_for_it_is_told_why(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from datasets.store import locked\n"
        "from datasets.workers import ordered\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print(list(ordered(abs, [-1, 2], 1)))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, script, tmp_path]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode and "under `if __name__ == '__main__':`" in ran.stderr
    script.write_text(script.read_text().replace("with", "if __name__ == '__main__':\n  with"))
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ran.stdout == "[1, 2]\n"
