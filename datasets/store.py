"""Files that are there as a whole or not at all, and that are known by their hash.

Commit: write a temporary file beside the target, sync it, read it back, rename it, sync the
folder. A crash at any point leaves the old file, or none, under the target's name.
"""

import errno
import hashlib
import multiprocessing
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_UN, flock
from pathlib import Path

_verified: set[tuple[str, int, int, str]] = set()


def commit(path: Path, data: bytes) -> None:
    """Make `data` the content of `path`, atomically and durably; OSError leaves the old content."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if file_sha256(temporary) != hashlib.sha256(data).hexdigest():
            raise OSError(errno.EIO, "the disk gave back other bytes than were written", str(path))
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(path: Path) -> str:
    """sha256 of a file of up to 64 MiB; of a larger one that of its size and of 64 parts of 1 MiB
    at equal distances, which tells files apart but does not notice every altered byte.
    """
    part, size = 2**20, path.stat().st_size
    if size <= 64 * part:
        return file_sha256(path)
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb") as file:
        for k in range(64):
            file.seek(k * (size - part) // 63)
            digest.update(file.read(part))
    return digest.hexdigest()


def require_space(folder: Path, num_bytes: int) -> None:
    """Raise OSError unless twice `num_bytes` are free: better before a file than within it."""
    free = shutil.disk_usage(folder).free
    if free < 2 * num_bytes:
        raise OSError(
            errno.ENOSPC,
            f"the next file needs {2 * num_bytes / 1e6:.1f} MB, {free / 1e6:.1f} MB are free",
            str(folder),
        )


def verify(path: Path, num_bytes: int, sha256: str, *, remedy: str) -> None:
    """Raise ValueError unless the file has this size and hash.

    Within a process the hash is computed once for a path, size and modification time.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise ValueError(f"{path}: listed in the manifest but missing. {remedy}") from None
    if status.st_size != num_bytes:
        raise ValueError(
            f"{path}: expected {num_bytes} bytes, found {status.st_size}: truncated or altered. "
            f"{remedy}"
        )
    key = (str(path), num_bytes, status.st_mtime_ns, sha256)
    if key in _verified:
        return
    found = file_sha256(path)
    if found != sha256:
        raise ValueError(f"{path}: expected sha256 {sha256}, found {found}: altered. {remedy}")
    _verified.add(key)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One writer per folder; a second one says so and waits. The lock dies with its process.

    Raises RuntimeError in a worker process that a script started while it held the lock and that
    now runs the script again: it would wait for its own parent.
    """
    with open(folder / ".lock", "wb") as file:
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if getattr(multiprocessing.current_process(), "_inheriting", False):
                raise RuntimeError(
                    "worker processes import the script that starts them: put what it does under "
                    "`if __name__ == '__main__':`, or use num_workers=0."
                ) from None
            print(f"{folder}: another process is writing; waiting.", file=sys.stderr)
            flock(file, LOCK_EX)
        try:
            yield
        finally:
            flock(file, LOCK_UN)
