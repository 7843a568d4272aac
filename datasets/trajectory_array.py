"""Bring your own trajectories: one `.npy` file."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.arrays import memory_map
from datasets.normalize import require_finite
from datasets.schema import Field, Metadata
from solvers.grid import Grid


class TrajectoryArray:
    """Solutions [n, t, *space] or [n, t, c, *space] in a `.npy` file, `dt` apart (`Trajectories`).

    `ndim` is the number of space dimensions, so the number of axes says whether there is a channel
    axis. The file is memory-mapped; a map does not travel to other processes. The grid is the unit
    box with `boundary` on every side, its points at `points` (see `solvers.Axis`). Raises
    ValueError for other shapes, object or complex numbers, and, when they are read, NaN or
    infinity.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        ndim: int,
        dt: float,
        boundary: str,
        points: str,
        dtype: torch.dtype = torch.float32,
    ):
        self.path, self.dtype = Path(path), dtype
        if ndim not in (1, 2, 3):
            raise ValueError(f"ndim={ndim!r}: the number of space dimensions is 1, 2 or 3.")
        if not (dt > 0 and np.isfinite(dt)):
            raise ValueError(f"dt={dt} must be above 0: the time between frames.")
        self._array: np.ndarray | None = None
        shape, kind = self.array.shape, self.array.dtype
        if kind.kind not in "biuf":
            raise ValueError(f"{path}: {kind} is not supported; give real numbers.")
        if len(shape) not in (ndim + 2, ndim + 3) or 0 in shape:
            raise ValueError(
                f"{path}: expected [n, t, *space] or [n, t, c, *space] with {ndim} space "
                f"dimensions, found shape {shape}."
            )
        self._channels = shape[2] if len(shape) == ndim + 3 else 1
        if len(shape) == ndim + 3 and shape[-1] <= 4 < self._channels:
            raise ValueError(
                f"{path}: shape {shape} looks channel-last, expected [n, t, c, *space]. Convert "
                "it with np.moveaxis(array, -1, 2)."
            )
        count = self._channels
        names = ["u"] if count == 1 else [f"u_{i}" for i in range(count)]
        self.metadata = Metadata(
            name="trajectories",
            input_fields=(),
            target_fields=tuple(Field(name) for name in names),
            grid=Grid.box(shape[-ndim:], boundary=boundary, points=points),
            dt=float(dt),
            num_frames=shape[1],
            provenance={"file": self.path.name},
        )
        self._times = dt * np.arange(shape[1])

    @property
    def array(self) -> np.ndarray:
        if self._array is None:
            self._array = memory_map(self.path)
        return self._array

    def __len__(self) -> int:
        return self.array.shape[0]

    def times(self, index: int) -> np.ndarray:
        return self._times

    def read(self, index: int, frames: slice) -> Tensor:
        if not 0 <= index < len(self):
            raise IndexError(f"trajectory {index} of {len(self)} in {self.path}.")
        block = np.array(self.array[index, frames])
        if block.dtype.byteorder not in "=|" or block.dtype.kind in "u":
            block = block.astype(np.float64)
        u = torch.from_numpy(block).to(self.dtype)
        u = u.reshape(len(u), self._channels, *self.metadata.grid.shape)
        if not torch.isfinite(u.sum()):
            place = f"{self.path}, trajectory {index}, frames from {frames.start or 0} on"
            rows = range(0, len(u) * (frames.step or 1), frames.step or 1)
            require_finite(u, self.metadata.target_fields, rows, place)
        return u

    def constants(self, index: int) -> Tensor:
        return torch.empty(0, *self.metadata.grid.shape, dtype=self.dtype)

    def parameters(self, index: int) -> Tensor:
        return torch.empty(0, dtype=self.dtype)

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_array": None}
