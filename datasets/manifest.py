"""The manifest of a data set: a header and one line per committed shard, in `manifest.jsonl`.

Readers believe the manifest only. Each line is a JSON object whose `seal` is the hash of the line
and the seal before it, so an edited, lost or moved line is noticed. A line without its newline is
one that a crash cut short: it counts as never written. Nothing in the file depends on time, host
or path.
"""

import hashlib
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from datasets.schema import SPLITS, Metadata
from datasets.store import commit, verify

FORMAT = 1
NAME = "manifest.jsonl"
CONVERTED, STREAMED = "converted from", "streamed from"


@dataclass(frozen=True)
class Header:
    """What a data set is: all that its numbers follow from, and what they mean.

    `recipe` is the resolved configuration; of files that were converted, their hashes under
    `CONVERTED` and the command's `arguments`; of a stream that was recorded, its recipe under
    `STREAMED`. `shape` is the grid, `counts` the samples of each
    split.
    """

    name: str
    recipe: Mapping[str, Any]
    seed: int
    shape: list[int]
    counts: Mapping[str, int]
    samples_per_shard: int
    metadata: Mapping[str, Any]
    format: int = FORMAT

    @property
    def hash(self) -> str:
        """Eight hex digits over all that the numbers follow from: everything but explanations."""
        identity = {key: value for key, value in asdict(self).items() if key != "metadata"}
        identity["recipe"].pop("provenance", None)
        return hashlib.sha256(_dump(identity).encode()).hexdigest()[:8]

    @property
    def folder(self) -> str:
        return f"{self.name}-{'x'.join(map(str, self.shape))}-{self.hash}"

    @property
    def command(self) -> str:
        """The command that makes and repairs the data set, if the recipe is the one in conf/pde, or
        converts it again.
        """
        if STREAMED in self.recipe:
            return "python train.py ... online.tee=FOLDER, with the settings in its study.json"
        if CONVERTED in self.recipe:
            return shlex.join(["python", "-m", "datasets.convert", *self.recipe["arguments"]])
        uniform = len(set(self.shape)) == 1
        shape = self.shape[0] if uniform else f"[{','.join(map(str, self.shape))}]"
        train, valid, test = (self.counts[split] for split in SPLITS)
        return (
            f"python -m datasets.generate pde={self.name} num_samples={train} num_valid={valid} "
            f"num_test={test} resolution={shape} seed={self.seed}"
        )


@dataclass(frozen=True)
class Shard:
    """A committed file.

    `samples` are its first sample in the split and the one after its last; `residual` is the
    largest relative residual of a sample; `moments` holds count, means and sums of squared
    deviations of the components of each field.
    """

    split: str
    file: str
    samples: list[int]
    bytes: int
    sha256: str
    shapes: Mapping[str, list[int]]
    dtype: str
    seed: int
    solver: Mapping[str, Any]
    residual: float
    moments: Mapping[str, Any]


class Manifest:
    """The manifest of the data set in `folder`, as read or as begun by `create`."""

    def __init__(self, folder: Path | str):
        self.folder = Path(folder)
        self.path = self.folder / NAME
        if not self.path.is_file():
            raise ValueError(
                f"{self.folder}: no data set here ({NAME} is missing). Make one with "
                "python -m datasets.generate, or give the folder that holds the manifest."
            )
        data = self.path.read_bytes()
        self._end = data.rfind(b"\n") + 1
        self._seal = ""
        records = [self._open(n, s) for n, s in enumerate(data[: self._end].splitlines(), 1)]
        try:
            self.header = Header(**records[0])
            self.shards = [Shard(**record) for record in records[1:]]
        except (IndexError, TypeError) as error:
            text = f"{self.path}: not a manifest of format {FORMAT} ({error})."
            raise ValueError(text) from error
        self.metadata = Metadata.from_dict(self.header.metadata)

    @classmethod
    def create(cls, folder: Path, header: Header) -> "Manifest":
        commit(folder / NAME, _sealed(asdict(header), "")[0])
        return cls(folder)

    def write(self, header: Header, shards: Sequence[Shard]) -> None:
        """Make the file anew; durable on return."""
        lines, seal = _sealed(asdict(header), "")
        for entry in shards:
            line, seal = _sealed(asdict(entry), seal)
            lines += line
        commit(self.path, lines)
        self.header, self.shards = header, list(shards)
        self._end, self._seal = len(lines), seal

    @property
    def remedy(self) -> str:
        if STREAMED in self.header.recipe:
            return f"Record it again: {self.header.command}"
        if CONVERTED in self.header.recipe:
            return f"Convert it again (give the paths in full): {self.header.command}"
        return f"Make it again (add the changes to the recipe, if any): {self.header.command}"

    def put(self, index: int, shard: Shard) -> None:
        """Append a shard, or replace the entry of one that was made again; durable on return."""
        if index == len(self.shards):
            line, seal = _sealed(asdict(shard), self._seal)
            with open(self.path, "r+b") as file:
                file.seek(self._end)
                file.truncate()
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            self.shards.append(shard)
            self._end, self._seal = self._end + len(line), seal
        elif self.shards[index] != shard:
            self.write(self.header, [*self.shards[:index], shard, *self.shards[index + 1 :]])

    def of(self, split: str) -> list[Shard]:
        return [shard for shard in self.shards if shard.split == split]

    def verify(self, shard: Shard) -> Path:
        """The path of a shard whose bytes are the committed ones; ValueError otherwise."""
        path = self.folder / shard.file
        verify(path, shard.bytes, shard.sha256, remedy=self.remedy)
        return path

    def _open(self, number: int, line: bytes) -> dict[str, Any]:
        """Line -> record, after its seal."""
        try:
            record = json.loads(line)
            seal = record.pop("seal")
            intact = seal == _seal(record, self._seal)
        except (ValueError, KeyError, AttributeError, TypeError):
            intact = False
        if not intact:
            raise ValueError(
                f"{self.path}: line {number} was edited, lost or damaged (its seal does not fit). "
                f"Delete {NAME} and make the data set again with the command that made it."
            )
        self._seal = seal
        return record


def _dump(record: Mapping[str, Any]) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _seal(record: Mapping[str, Any], before: str) -> str:
    return hashlib.sha256((before + _dump(record)).encode()).hexdigest()


def _sealed(record: Mapping[str, Any], before: str) -> tuple[bytes, str]:
    seal = _seal(record, before)
    return (_dump({**record, "seal": seal}) + "\n").encode(), seal
