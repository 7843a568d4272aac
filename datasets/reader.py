"""Reading the shards of a data set lazily, from any number of processes."""

import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch

from datasets.hdf5 import open_file
from datasets.layout import dataset_path, read_field
from datasets.manifest import Manifest, Shard
from datasets.schema import SPLITS, Batch, Field


class ShardedSource:
    """One split of a generated data set (a `Source`); samples are read when they are asked for.

    What the manifest does not list is not there, and a split whose shards are not all listed is
    refused. On first opening in a process a shard is checked against size and sha256 of the
    manifest. At most `max_open` files are open per process; none travels to another process.
    Numbers are stored as float32; `dtype` is that of the batches.
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
        if self.metadata.dt is not None:
            raise ValueError(f"{folder}: holds trajectories; only steady maps are read here.")
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
        self._coordinates = self.metadata.grid.mesh(dtype)

    def __len__(self) -> int:
        return self._size

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """The samples in the order of `indices`, read shard by shard."""
        by_shard: dict[int, list[int]] = {}
        for position, index in enumerate(indices):
            if not 0 <= index < self._size:
                raise IndexError(f"sample {index} of {self._size} in {self.split}.")
            by_shard.setdefault(bisect_right(self._starts, index) - 1, []).append(position)
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
        meta, file = self.metadata, self._files.get(self.manifest, shard)
        try:
            input, target = (
                np.concatenate([file.field(f, meta.ndim, rows) for f in fields], axis=1)
                for fields in (meta.input_fields, meta.target_fields)
            )
            parameters = np.empty((len(rows), len(meta.parameters)))
            for column, name in enumerate(meta.parameters):
                parameters[:, column] = file.dataset(f"scalars/{name}")[:][rows]
        except (OSError, KeyError) as error:
            path = self.manifest.folder / shard.file
            raise ValueError(f"{path}: {error}. {self.manifest.remedy}") from error
        return input, target, parameters


class OpenShard:
    """An open file that remembers where its datasets are."""

    def __init__(self, file: h5py.File):
        self.file = file
        self._datasets: dict[str, h5py.Dataset] = {}

    def dataset(self, path: str) -> h5py.Dataset:
        if path not in self._datasets:
            self._datasets[path] = self.file[path]
        return self._datasets[path]

    def field(self, field: Field, ndim: int, rows: list[int]) -> np.ndarray:
        return read_field(self.dataset(dataset_path(field, ndim)), field, ndim, rows)


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
