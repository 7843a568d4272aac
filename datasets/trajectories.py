"""Solutions over time, read piecewise: what windows are cut from."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from datasets.schema import Metadata


class Trajectories(Protocol):
    """Solutions over time on one grid, addressed by integer; nothing is read before it is asked
    for.

    `metadata.target_fields` change in time and are the state, c components; `input_fields` do not
    change, such as a coefficient, and there may be none. `metadata.dt` is the time between frames,
    their median where frames are not equidistant.
    """

    metadata: Metadata

    def __len__(self) -> int: ...

    def times(self, index: int) -> np.ndarray:
        """Times of the frames of a trajectory, float64 [t], ascending."""
        ...

    def read(self, index: int, frames: slice) -> Tensor:
        """Frames of the state, [t, c, *space]."""
        ...

    def constants(self, index: int) -> Tensor:
        """Fields that do not change, [c, *space]; c may be 0."""
        ...

    def parameters(self, index: int) -> Tensor:
        """Numbers of a trajectory in the order of `metadata.parameters`, [p]."""
        ...


class SomeTrajectories:
    """Some trajectories of others, in the given order (`Trajectories`)."""

    def __init__(self, whole: Trajectories, indices: Sequence[int]):
        self.whole, self.indices = whole, [int(index) for index in indices]
        self.metadata = whole.metadata

    def __len__(self) -> int:
        return len(self.indices)

    def times(self, index: int) -> np.ndarray:
        return self.whole.times(self.indices[index])

    def read(self, index: int, frames: slice) -> Tensor:
        return self.whole.read(self.indices[index], frames)

    def constants(self, index: int) -> Tensor:
        return self.whole.constants(self.indices[index])

    def parameters(self, index: int) -> Tensor:
        return self.whole.parameters(self.indices[index])


def identity(trajectories: Trajectories, index: int) -> str:
    """Hash of what a trajectory follows from: its parameters, constants and first frame."""
    digest = hashlib.sha256()
    for part in (
        trajectories.parameters(index),
        trajectories.constants(index),
        trajectories.read(index, slice(0, 1)),
    ):
        digest.update(part.to(torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_apart(parts: Mapping[str, Trajectories]) -> None:
    """Raise ValueError when two splits hold a trajectory with the same parameters, constants and
    first frame: what was learned would be tested.
    """
    known: dict[str, tuple[str, int]] = {}
    for split, part in parts.items():
        for index in range(len(part)):
            other, number = known.setdefault(identity(part, index), (split, index))
            if other != split:
                raise ValueError(
                    f"{part.metadata.name}: {split} trajectory {index} begins with the parameters "
                    f"and the first frame of {other} trajectory {number}; remove one of them, or "
                    "split by parameters."
                )
