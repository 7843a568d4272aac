"""Checkpoint files: whole or absent, every altered byte noticed, nothing in them ever run."""

import errno
import io
import os
import pickle
import random
import zipfile
from pathlib import Path

import pytest
import torch

from sciml.runtime.checkpoint_io import AtomicCheckpointIO, load_checkpoint
from tests.helpers import tensor_bytes

IO = AtomicCheckpointIO()


def content(value: float = 0.0) -> dict:
    generator = torch.Generator().manual_seed(0)
    return {
        "state_dict": {
            "real": torch.randn(17, 5, generator=generator) + value,
            "double": torch.randn(3, generator=generator, dtype=torch.float64),
            "complex": torch.randn(4, 4, generator=generator, dtype=torch.complex64),
            "short": torch.randn(33, generator=generator).bfloat16(),
            "count": torch.tensor(7),
            "empty": torch.empty(0, 3),
        },
        "callbacks": {"Checkpoints": {"score": float("inf"), "epoch": -1}},
        "loops": [1, (2, None), "three", True],
        "random": torch.get_rng_state(),
    }


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "checkpoints" / "last.ckpt"
    IO.save_checkpoint(content(), path)
    return path


def same(found, expected) -> bool:
    if isinstance(expected, torch.Tensor):
        return found.dtype == expected.dtype and torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            same(found[k], v) for k, v in expected.items()
        )
    return found == expected


def test_what_is_saved_is_loaded(saved):
    assert same(IO.load_checkpoint(saved), content())
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_a_second_save_replaces_the_first_and_removal_is_twice_possible(saved):
    IO.save_checkpoint(content(1.0), saved)
    assert same(load_checkpoint(saved), content(1.0))
    IO.remove_checkpoint(saved)
    IO.remove_checkpoint(saved)
    assert not saved.exists()


def test_every_flipped_byte_in_the_numbers_is_refused(saved):
    """torch.load alone returns a wrong weight without a word: the control."""
    chance, original, silent = random.Random(0), saved.read_bytes(), 0
    spans = tensor_bytes(saved)
    for _ in range(100):
        start, length = chance.choice(spans)
        data = bytearray(original)
        data[start + chance.randrange(length)] ^= 1 << chance.randrange(8)
        saved.write_bytes(data)
        with pytest.raises(
            ValueError, match=r"last.ckpt: altered, the checksum of its entry \S+ is wrong"
        ):
            load_checkpoint(saved)
        silent += not same(torch.load(saved, weights_only=True), content())
    assert silent > 90  # NaN differs from itself, -0.0 equals 0.0, so not exactly 100


def test_no_flipped_byte_anywhere_changes_a_number(saved):
    """Also in the headers and the directory of the archive: refused, or without consequence."""
    chance, original = random.Random(1), saved.read_bytes()
    for _ in range(200):
        data = bytearray(original)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        saved.write_bytes(data)
        try:
            found = load_checkpoint(saved)
        except ValueError as error:
            assert str(saved) in str(error)
        else:
            assert same(found, content())


def test_an_entry_marked_as_a_folder_is_refused(saved):
    """The control: torch.load does not read such an entry and takes what lies in memory for it."""
    data = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        start, name = archive.start_dir, archive.infolist()[4].filename
    position = (
        data.index(name.encode(), start) - 8
    )  # the attributes, in the directory of the archive
    data[position] |= 0x10
    saved.write_bytes(data)
    assert zipfile.ZipFile(saved).testzip() is None
    torch.load(saved, weights_only=True)
    with pytest.raises(ValueError, match=f"last.ckpt: altered, the checksum of its entry {name}"):
        load_checkpoint(saved)


@pytest.mark.filterwarnings("ignore")
def test_a_damaged_pickle_with_the_right_checksum_is_refused_in_one_line(saved):
    chance = random.Random(2)
    with zipfile.ZipFile(saved) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    refused = 0
    for _ in range(200):
        data = bytearray(parts["archive/data.pkl"])
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        with zipfile.ZipFile(saved, "w") as archive:
            for name, part in (parts | {"archive/data.pkl": bytes(data)}).items():
                archive.writestr(name, part)
        try:
            load_checkpoint(saved)
        except ValueError as error:
            assert str(saved) in str(error)
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_a_truncated_file_is_refused(saved):
    original = saved.read_bytes()
    for part in range(20):
        saved.write_bytes(original[: len(original) * part // 20])
        with pytest.raises(ValueError, match=r"last.ckpt: truncated, or not a checkpoint"):
            load_checkpoint(saved)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("where", ["state_dict", "callbacks", "value"])
def test_a_file_with_code_is_refused_and_not_run(tmp_path, where):
    path, marker = tmp_path / "evil.ckpt", tmp_path / "ran"
    torch.save(content() | {where: Payload(marker)}, path)
    with pytest.raises(ValueError, match="evil.ckpt: refused, not tensors and plain values alone"):
        load_checkpoint(path)
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # the control: the payload works


def test_a_bare_pickle_is_refused_and_not_run(tmp_path):
    path, marker = tmp_path / "evil.ckpt", tmp_path / "ran"
    path.write_bytes(pickle.dumps({"state_dict": Payload(marker)}))
    with pytest.raises(ValueError, match="evil.ckpt: truncated, or not a checkpoint"):
        load_checkpoint(path)
    assert not marker.exists()


@pytest.mark.parametrize("scheme", ["https", "http", "s3", "gs", "file", "memory"])
def test_addresses_are_refused(scheme):
    with pytest.raises(ValueError, match="checkpoints are read from files only"):
        load_checkpoint(f"{scheme}://host/last.ckpt")


def test_what_is_not_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing.ckpt: no such checkpoint"):
        load_checkpoint(tmp_path / "nothing.ckpt")
    with pytest.raises(ValueError, match="is a folder; checkpoints are files"):
        load_checkpoint(tmp_path)
    for found in ([1, 2], {"weights": torch.ones(2)}, torch.ones(2)):
        torch.save(found, tmp_path / "other.pt")
        with pytest.raises(ValueError, match="not a checkpoint of a run, it has no state_dict"):
            load_checkpoint(tmp_path / "other.pt")
    with zipfile.ZipFile(tmp_path / "plain.zip", "w") as archive:
        archive.writestr("readme", "not a tensor")
    with pytest.raises(ValueError, match=r"plain.zip: (refused|truncated)"):
        load_checkpoint(tmp_path / "plain.zip")


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_crash_at_any_call_leaves_the_old_file_or_the_new_one(saved, monkeypatch, call, number):
    real, calls = getattr(os, call), iter(range(10))

    def crash(*arguments, **options):
        if next(calls) == number:
            raise Crash
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, crash)
    try:
        IO.save_checkpoint(content(1.0), saved)
    except Crash:
        replaced = call == "open" or (call, number) == (
            "fsync",
            1,
        )  # of the folder, after the renaming
        assert same(load_checkpoint(saved), content(1.0 if replaced else 0.0))
    else:
        assert same(load_checkpoint(saved), content(1.0))


def test_a_killed_process_leaves_the_old_file(saved):
    """`os._exit` cleans up no more than a kill; a temporary file may stay, under another name."""
    child = os.fork()
    if child == 0:
        os.replace = lambda *_: os._exit(7)
        try:
            IO.save_checkpoint(content(1.0), saved)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert same(load_checkpoint(saved), content())
    IO.save_checkpoint(content(2.0), saved)
    assert same(load_checkpoint(saved), content(2.0))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_refuses_is_an_error_and_the_old_file_stays(saved, monkeypatch, code):
    def refuse(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=os.strerror(code)):
        IO.save_checkpoint(content(1.0), saved)
    monkeypatch.undo()
    assert same(load_checkpoint(saved), content())
    assert [path.name for path in saved.parent.iterdir()] == ["last.ckpt"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match="file"):
        IO.save_checkpoint(content(), tmp_path / "file" / "last.ckpt")
    with pytest.raises(OSError, match="last.ckpt"):
        (tmp_path / "last.ckpt").mkdir()
        IO.save_checkpoint(content(), tmp_path / "last.ckpt")


def test_the_old_file_stays_when_the_content_cannot_be_saved(saved):
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        IO.save_checkpoint(content() | {"local": lambda: None, "file": io.StringIO()}, saved)
    assert same(load_checkpoint(saved), content())
