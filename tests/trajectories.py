"""Trajectories that are given as tensors."""

import numpy as np
import torch
from torch import Tensor

from datasets.schema import Field, Metadata
from solvers.grid import Grid

DT = 0.5


class Given:
    """States [n, t, c, *space] of the fields u, v, w as `Trajectories`, `dt` apart, or, if
    `uneven`, at times that are squares; the last `short` frames of every other one are missing.
    """

    def __init__(
        self,
        states: Tensor,
        *,
        grid: Grid | None = None,
        constants: Tensor | None = None,
        dt: float = DT,
        short: int = 0,
    ):
        shape = states.shape[3:]
        self.states, self.uneven, self.short = states, False, short
        self.given = states.new_empty(len(states), 0, *shape) if constants is None else constants
        self.metadata = Metadata(
            "given",
            tuple(Field(f"source_{i}") for i in range(self.given.shape[1])),
            tuple(Field(name) for name in "uvw"[: states.shape[2]]),
            grid or Grid.box(shape, boundary="periodic", points="left"),
            dt=dt,
            num_frames=states.shape[1],
        )

    def __len__(self) -> int:
        return len(self.states)

    def times(self, index: int) -> np.ndarray:
        count = self.states.shape[1] - (self.short if index % 2 else 0)
        steps = np.arange(count, dtype=float)
        return self.metadata.dt * (steps**2 if self.uneven else steps)

    def read(self, index: int, frames: slice) -> Tensor:
        return self.states[index, frames]

    def constants(self, index: int) -> Tensor:
        return self.given[index]

    def parameters(self, index: int) -> Tensor:
        return torch.empty(0, dtype=self.states.dtype)
