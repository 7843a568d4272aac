"""Checkpoint files that are whole or absent, checked byte by byte, and read without running
anything.
"""

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO

from datasets.store import commit

FOLDER = 0x10  # among the attributes of an entry in a zip archive
DAMAGE = (  # what damaged archives and pickles raise, read from memory
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


class AtomicCheckpointIO(CheckpointIO):
    """Checkpoints by `commit` and `load_checkpoint`: tensors and plain values, nothing that could
    run.

    Lightning's own writer stages the file on another filesystem and can end with no file and no
    error.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        commit(path, buffer.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return load_checkpoint(path)

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. ValueError if it is missing, altered or not one.

    The file is a zip archive whose entries carry a CRC-32. `torch.load` does not compare them, and
    returns a wrong weight where a bit has flipped; nor does it read an entry that is marked as a
    folder. Both are looked for here first, in the very bytes that it is then given.
    """
    if "://" in str(path):
        raise ValueError(f"{path}: checkpoints are read from files only; copy it here first.")
    path = Path(path)
    if path.is_dir():
        raise ValueError(
            f"{path}: is a folder; checkpoints are files, such as runs/.../checkpoints/best.ckpt."
        )
    if not path.is_file():
        raise ValueError(f"{path}: no such checkpoint.")
    data = io.BytesIO(path.read_bytes())
    try:
        with zipfile.ZipFile(data) as archive:
            folders = [e.filename for e in archive.infolist() if e.external_attr & FOLDER]
            altered = archive.testzip() or next(iter(folders), None)
    except DAMAGE as error:
        raise ValueError(f"{path}: truncated, or not a checkpoint ({error}).") from error
    if altered is not None:
        raise ValueError(
            f"{path}: altered, the checksum of its entry {altered} is wrong; use another "
            "checkpoint of the run."
        )
    try:
        data.seek(0)
        checkpoint = torch.load(data, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{path}: refused, not tensors and plain values alone ({reason})"
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(f"{path}: not a checkpoint of a run, it has no state_dict.")
    return checkpoint
