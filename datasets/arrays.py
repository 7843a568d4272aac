"""Bring your own arrays: inputs and targets from `.npy` files, NumPy arrays or tensors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.normalize import require_finite
from datasets.schema import Batch, Field, Metadata
from solvers.grid import Grid

Array = str | Path | np.ndarray | Tensor


class ArraySource:
    """Samples from two arrays, each [n, *space] or [n, c, *space] (a `Source`).

    `ndim` is the number of space dimensions, so the number of axes says whether there is a channel
    axis. Files are memory-mapped and read sample by sample. Integers and bools become `dtype`. The
    grid is the unit box with the given `boundary` on every side and position of `points` (see
    `solvers.Axis`), unless `grid` says otherwise. Channels are named `input_0 ...` unless named.
    Raises ValueError for shapes that do not fit, object or complex numbers, and, when they are
    read, NaN or infinity.
    """

    def __init__(
        self,
        input: Array,
        target: Array,
        *,
        ndim: int,
        name: str = "arrays",
        boundary: str = "dirichlet",
        points: str = "cells",
        grid: Grid | None = None,
        input_names: Sequence[str] = (),
        target_names: Sequence[str] = (),
        dtype: torch.dtype = torch.float32,
    ):
        self._input, self._target = (
            _Side(array, ndim, side) for array, side in ((input, "input"), (target, "target"))
        )
        self.dtype = dtype
        _compare(self._input, self._target, grid)
        if grid is None:
            grid = Grid.box(self._input.space, boundary=boundary, points=points)
        self.metadata = Metadata(
            name=name,
            input_fields=self._input.fields(input_names),
            target_fields=self._target.fields(target_names),
            grid=grid,
            provenance={"input": self._input.origin, "target": self._target.origin},
        )
        self._coordinates = grid.mesh(dtype)

    def __len__(self) -> int:
        return self._input.shape[0]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        meta, rows = self.metadata, [int(index) for index in indices]
        input, target = (side.read(rows, self.dtype) for side in (self._input, self._target))
        require_finite(input, meta.input_fields, rows, self._input.origin)
        require_finite(target, meta.target_fields, rows, self._target.origin)
        parameters = torch.empty(len(rows), 0, dtype=self.dtype)
        return Batch(input, target, parameters, self._coordinates)


class _Side:
    """One array, with or without a channel axis. A memory map stays in its process."""

    def __init__(self, array: Array, ndim: int, side: str):
        if ndim not in (1, 2, 3):
            raise ValueError(f"ndim={ndim!r}: the number of space dimensions is 1, 2 or 3.")
        self.side, self.ndim = side, ndim
        self.path = Path(array) if isinstance(array, str | Path) else None
        self.origin = side if self.path is None else str(self.path)
        if self.path is not None:
            self._array = None
        elif isinstance(array, Tensor):
            self._array = array.detach()
        else:
            self._array = np.asarray(array)
        found = self.array
        self.shape = tuple(found.shape)
        if not _is_real(found):
            raise ValueError(
                f"{self.origin}: {found.dtype} is not supported; give real numbers, a complex "
                "field as two channels (np.stack([z.real, z.imag], axis=1))."
            )
        if len(self.shape) not in (ndim + 1, ndim + 2):
            raise ValueError(
                f"{self.origin}: expected [n, *space] or [n, c, *space] with {ndim} space "
                f"dimensions, found shape {self.shape}."
            )
        if 0 in self.shape:
            raise ValueError(f"{self.origin}: shape {self.shape} holds no numbers.")

    @property
    def space(self) -> tuple[int, ...]:
        return self.shape[-self.ndim :]

    @property
    def channels(self) -> int:
        return self.shape[1] if len(self.shape) == self.ndim + 2 else 1

    @property
    def array(self) -> np.ndarray | Tensor:
        if self._array is None:
            self._array = memory_map(self.path)
        return self._array

    def read(self, rows: list[int], dtype: torch.dtype) -> Tensor:
        """[len(rows), channels, *space]"""
        values = self.array[rows]
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values.astype(np.float64))
        return values.to("cpu", dtype).reshape(len(rows), self.channels, *self.space)

    def fields(self, names: Sequence[str]) -> tuple[Field, ...]:
        if not names:
            numbers = range(self.channels)
            names = [self.side] if self.channels == 1 else [f"{self.side}_{i}" for i in numbers]
        if len(names) != self.channels:
            raise ValueError(f"{self.origin}: {self.channels} channels, but names {list(names)}.")
        return tuple(Field(name) for name in names)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_array": None if self.path else self._array}


def _is_real(array: np.ndarray | Tensor) -> bool:
    return not array.is_complex() if isinstance(array, Tensor) else array.dtype.kind in "biuf"


def memory_map(path: Path) -> np.ndarray:
    """Raises ValueError for a missing file and for Python objects: unpickling them runs code."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file.") from None
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(
            f"{path}: not a .npy file of numbers ({error}). Write it with np.save(path, array)."
        ) from error


def _compare(input: _Side, target: _Side, grid: Grid | None) -> None:
    """Raise ValueError unless both have the same samples on the same grid, channels second."""
    for side, other in ((input, target), (target, input)):
        expected = other.space if grid is None else grid.shape
        if _is_channel_last(side, expected) or (grid is None and _has_slim_axis(side)):
            raise ValueError(
                f"{side.origin}: shape {side.shape} looks channel-last, expected [n, c, *space]. "
                "Convert it with np.moveaxis(array, -1, 1)."
            )
    if input.shape[0] != target.shape[0]:
        raise ValueError(
            f"{input.origin} holds {input.shape[0]} samples, {target.origin} holds "
            f"{target.shape[0]}; sample i of one must belong to sample i of the other."
        )
    for side in (input, target):
        expected = input.space if grid is None else grid.shape
        if side.space != expected:
            raise ValueError(
                f"{side.origin}: expected {expected} points in space, found {side.space} "
                f"(shape {side.shape}). Interpolate both fields to one grid."
            )


def _is_channel_last(side: _Side, space: tuple[int, ...]) -> bool:
    """Its space axes fit only when the last axis is taken for the channels."""
    return len(side.shape) == side.ndim + 2 and side.space != space and side.shape[1:-1] == space


def _has_slim_axis(side: _Side) -> bool:
    """A last axis of a few points under many channels: both sides channel-last alike."""
    return len(side.shape) == side.ndim + 2 and side.shape[-1] <= 4 < side.channels
