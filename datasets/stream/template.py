"""One solution over time without its numbers: for what follows from times and shapes alone."""

import numpy as np
import torch
from torch import Tensor

from datasets.schema import Metadata


class Template:
    """A single trajectory (`Trajectories`) that knows when its frames are and not what."""

    def __init__(self, metadata: Metadata):
        if metadata.num_frames is None or metadata.dt is None:
            raise ValueError(f"{metadata.name}: a steady map has no frames.")
        self.metadata = metadata
        self._times = np.arange(metadata.num_frames) * metadata.dt

    def __len__(self) -> int:
        return 1

    def times(self, index: int) -> np.ndarray:
        return self._times

    def read(self, index: int, frames: slice) -> Tensor:
        raise ValueError("a template has no numbers.")

    def constants(self, index: int) -> Tensor:
        return torch.empty(0, *self.metadata.grid.shape)

    def parameters(self, index: int) -> Tensor:
        return torch.empty(0)
