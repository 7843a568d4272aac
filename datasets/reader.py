"""Reading the shards of a data set lazily, from any number of processes."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.layout import dataset_path, read_field, read_frames
from datasets.manifest import Manifest, Shard
from datasets.open_files import OpenFile, OpenFiles
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
        self._files = OpenFiles(max_open)

    def __len__(self) -> int:
        return self._size

    def grow(self, shard: Shard) -> None:
        """A shard that was committed since, behind those that are known."""
        self._shards.append(shard)
        self._starts.append(shard.samples[0])
        self._size = shard.samples[1]

    def _place(self, index: int) -> tuple[int, int]:
        """Shard and row of a sample."""
        if not 0 <= index < self._size:
            raise IndexError(f"sample {index} of {self._size} in {self.split}.")
        number = bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    @contextmanager
    def _opened(self, shard: Shard) -> Iterator[OpenFile]:
        try:
            yield self._files.get(shard.file, lambda: self.manifest.verify(shard))
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
                np.concatenate([self._field(file, f, rows) for f in fields], axis=1)
                for fields in (meta.input_fields, meta.target_fields)
            )
            parameters = np.empty((len(rows), len(meta.parameters)))
            for column, name in enumerate(meta.parameters):
                parameters[:, column] = file.array(f"scalars/{name}")[rows]
        return input, target, parameters

    def _field(self, file: OpenFile, field: Field, rows: list[int]) -> np.ndarray:
        ndim = self.metadata.ndim
        return read_field(file.dataset(dataset_path(field, ndim)), field, ndim, rows)


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
            values = [file.array(f"scalars/{name}")[row] for name in names]
        return torch.tensor(values, dtype=self.dtype)

    def _fields(self, fields: Sequence[Field], index: int, frames: slice | None) -> Tensor:
        """Components [(t,) c, *space] of some fields of a trajectory."""
        number, row = self._place(index)
        ndim = self.metadata.ndim
        with self._opened(self._shards[number]) as file:
            stored = [(file.dataset(dataset_path(f, ndim)), f) for f in fields]
            parts = [read_frames(dataset, f, ndim, row, frames) for dataset, f in stored]
        found = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1 - ndim)
        return torch.from_numpy(found).to(self.dtype)
