"""Reading the shards of a data set lazily, from any number of processes."""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from datasets.hdf5 import open_file
from datasets.layout import dataset_path, read_field, read_frames
from datasets.manifest import Manifest, Shard
from datasets.schema import SPLITS, Batch, Field


class Shards:
    """One split of a generated data set: where its samples lie.

    What the manifest does not list is not there, and a split whose shards are not all listed is
    refused. On first opening in a process a shard is checked against size and sha256 of the
    manifest. At most `max_open` files are open per process; none travels to another process.
    Numbers are stored as float32; `dtype` is that of what is read.
    """

    def __init__(
        self,
        folder: Path | str,
        split: str,
        *,
        dtype: torch.dtype = torch.float32,
        max_open: int = 32,
    ):
        if split not in SPLITS:
            raise ValueError(f"split={split!r} is not one of {SPLITS}.")
        self.manifest = Manifest(folder)
        self.metadata = self.manifest.metadata
        self.split, self.dtype = split, dtype
        self._shards = self.manifest.of(split)
        self._starts = [shard.samples[0] for shard in self._shards]
        self._size = self.manifest.header.counts[split]
        listed = sum(shard.samples[1] - shard.samples[0] for shard in self._shards)
        if listed != self._size:
            raise ValueError(
                f"{self.manifest.folder}: {listed} of {self._size} {split} samples are there. "
                f"{self.manifest.remedy}"
            )
        self._files = OpenShards(max_open)

    def __len__(self) -> int:
        return self._size

    def _place(self, index: int) -> tuple[int, int]:
        """Shard and row of a sample."""
        if not 0 <= index < self._size:
            raise IndexError(f"sample {index} of {self._size} in {self.split}.")
        number = bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    @contextmanager
    def _opened(self, shard: Shard) -> Iterator["OpenShard"]:
        try:
            yield self._files.get(self.manifest, shard)
        except (OSError, KeyError) as error:
            path = self.manifest.folder / shard.file
            raise ValueError(f"{path}: {error}. {self.manifest.remedy}") from error


class ShardedSource(Shards):
    """The pairs of a steady map in one split (a `Source`), read when they are asked for."""

    def __init__(self, folder: Path | str, split: str, **options: Any):
        super().__init__(folder, split, **options)
        if self.metadata.num_frames is not None:
            raise ValueError(f"{folder}: holds trajectories; read it as ShardedTrajectories.")
        self._coordinates = self.metadata.grid.mesh(self.dtype)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples in the order of `indices`, read shard by shard."""
        by_shard: dict[int, list[int]] = {}
        for position, index in enumerate(indices):
            by_shard.setdefault(self._place(index)[0], []).append(position)
        num, meta = len(indices), self.metadata
        input = torch.empty(num, meta.in_channels, *meta.grid.shape, dtype=self.dtype)
        target = torch.empty(num, meta.out_channels, *meta.grid.shape, dtype=self.dtype)
        parameters = torch.empty(num, len(meta.parameters), dtype=self.dtype)
        for number, positions in by_shard.items():
            rows = [indices[position] - self._starts[number] for position in positions]
            found = self._read(self._shards[number], rows)
            for whole, part in zip((input, target, parameters), found, strict=True):
                whole[positions] = torch.from_numpy(part).to(self.dtype)
        return Batch(input, target, parameters, self._coordinates)

    def _read(self, shard: Shard, rows: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Input, target and parameters of some rows of a shard."""
        meta = self.metadata
        with self._opened(shard) as file:
            input, target = (
                np.concatenate([file.field(f, meta.ndim, rows) for f in fields], axis=1)
                for fields in (meta.input_fields, meta.target_fields)
            )
            parameters = np.empty((len(rows), len(meta.parameters)))
            for column, name in enumerate(meta.parameters):
                parameters[:, column] = file.scalars(name)[rows]
        return input, target, parameters


class ShardedTrajectories(Shards):
    """The solutions over time in one split (`Trajectories`), read frame by frame."""

    def __init__(self, folder: Path | str, split: str, **options: Any):
        super().__init__(folder, split, **options)
        meta = self.metadata
        if meta.num_frames is None or meta.dt is None:
            raise ValueError(f"{folder}: holds a steady map; read it as ShardedSource.")
        self._times = np.arange(meta.num_frames) * meta.dt

    def times(self, index: int) -> np.ndarray:
        return self._times

    def read(self, index: int, frames: slice) -> Tensor:
        return self._fields(self.metadata.target_fields, index, frames)

    def constants(self, index: int) -> Tensor:
        if not self.metadata.input_fields:
            return torch.empty(0, *self.metadata.grid.shape, dtype=self.dtype)
        return self._fields(self.metadata.input_fields, index, None)

    def parameters(self, index: int) -> Tensor:
        number, row = self._place(index)
        names = self.metadata.parameters
        if not names:
            return torch.empty(0, dtype=self.dtype)
        with self._opened(self._shards[number]) as file:
            values = [file.scalars(name)[row] for name in names]
        return torch.tensor(values, dtype=self.dtype)

    def _fields(self, fields: Sequence[Field], index: int, frames: slice | None) -> Tensor:
        """Components [(t,) c, *space] of some fields of a trajectory."""
        number, row = self._place(index)
        ndim = self.metadata.ndim
        with self._opened(self._shards[number]) as file:
            parts = [read_frames(file.stored(f, ndim), f, ndim, row, frames) for f in fields]
        found = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1 - ndim)
        return torch.from_numpy(found).to(self.dtype)


class OpenShard:
    """An open file that remembers where its datasets are."""

    def __init__(self, file: h5py.File):
        self.file = file
        self._datasets: dict[str, h5py.Dataset] = {}
        self._scalars: dict[str, np.ndarray] = {}

    def dataset(self, path: str) -> h5py.Dataset:
        if path not in self._datasets:
            self._datasets[path] = self.file[path]
        return self._datasets[path]

    def stored(self, field: Field, ndim: int) -> h5py.Dataset:
        return self.dataset(dataset_path(field, ndim))

    def field(self, field: Field, ndim: int, rows: list[int]) -> np.ndarray:
        return read_field(self.stored(field, ndim), field, ndim, rows)

    def scalars(self, name: str) -> np.ndarray:
        """One number for each sample of the shard, read once."""
        if name not in self._scalars:
            self._scalars[name] = self.dataset(f"scalars/{name}")[:]
        return self._scalars[name]


class OpenShards:
    """The shards that this process has open, at most `limit`; the least recently used goes first.

    HDF5 handles must not cross a fork (parent and child would share file offset and cache) and
    cannot be pickled: a forked or spawned process begins with none.
    """

    def __init__(self, limit: int):
        if limit < 1:
            raise ValueError(f"max_open={limit} must be at least 1.")
        self.limit = limit
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._inspected: set[str] = set()
        self._open: OrderedDict[str, OpenShard] = OrderedDict()

    def get(self, manifest: Manifest, shard: Shard) -> OpenShard:
        """The open shard, verified when it is opened and inspected the first time."""
        if self._pid != os.getpid():
            self._reset()
        if shard.file not in self._open:
            while len(self._open) >= self.limit:
                self._open.popitem(last=False)[1].file.close()
            file = open_file(manifest.verify(shard), known=shard.file in self._inspected)
            self._inspected.add(shard.file)
            self._open[shard.file] = OpenShard(file)
        self._open.move_to_end(shard.file)
        return self._open[shard.file]

    def __len__(self) -> int:
        return len(self._open)

    def __getstate__(self) -> dict[str, int]:
        return {"limit": self.limit}

    def __setstate__(self, state: dict[str, int]) -> None:
        self.limit = state["limit"]
        self._reset()
