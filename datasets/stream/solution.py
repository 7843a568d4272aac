"""One solution of a stream in memory, and several as the content of a shard."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from datasets.layout import arrange
from datasets.schema import Field, Metadata
from datasets.stream.events import Frame

Content = tuple[Metadata, Mapping[str, np.ndarray], Mapping[str, np.ndarray]]


class Solution:
    """The frames [c, *space] of a simulation so far, copied, by their number."""

    def __init__(self, frame: Frame):
        """From the first frame that comes, which has constant fields and parameters with it."""
        self.simulation = frame.simulation
        self.constant_fields, self.numbers = frame.constants.copy(), frame.parameters.copy()
        self.frames: dict[int, np.ndarray] = {}

    def states(self, frames: slice = slice(None)) -> np.ndarray:
        """[t, c, *space]."""
        return np.stack([self.frames[k] for k in range(*frames.indices(len(self.frames)))])

    def read(self, frames: slice) -> Tensor:
        """As from the store: frames [t, c, *space]."""
        return torch.from_numpy(self.states(frames))

    def constants(self) -> Tensor:
        return torch.from_numpy(self.constant_fields.astype(np.float32))

    def parameters(self) -> Tensor:
        return torch.from_numpy(self.numbers.astype(np.float32))


def content(metadata: Metadata, solutions: Sequence[Solution]) -> Content:
    """What a shard of these solutions consists of."""
    states = np.stack([s.states() for s in solutions])  # [b, t, c, *space]
    constants = np.stack([s.constant_fields for s in solutions])
    timed = metadata.num_frames is not None
    fields = _split(constants, metadata.input_fields, 1)
    fields |= _split(states if timed else states[:, 0], metadata.target_fields, 1 + timed)
    columns = np.stack([s.numbers for s in solutions]).T
    parameters = dict(zip(metadata.parameters, columns, strict=True))
    tensors = {name: torch.from_numpy(field) for name, field in fields.items()}
    return metadata, arrange(metadata, tensors), parameters


def _split(u: np.ndarray, fields: Sequence[Field], axis: int) -> dict[str, np.ndarray]:
    """Components of u [b, (t,) c, *space] by field; those of one component have no axis for it."""
    parts, start = {}, 0
    for field in fields:
        part = np.take(u, range(start, start + field.components), axis=axis)
        parts[field.name] = part if field.components > 1 else part.squeeze(axis)
        start += field.components
    return parts
