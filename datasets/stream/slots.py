"""Memory that a worker and the process that trains share, for frames on their way."""

import math
import multiprocessing
from collections.abc import Sequence
from multiprocessing.context import SpawnContext
from multiprocessing.sharedctypes import RawArray

import numpy as np

from datasets.schema import Metadata

ALIGNMENT = 64


class Slots:
    """`count` places for one frame each: state, constant fields and parameters.

    The memory has no name: its file is unlinked as soon as it is made, so nothing is left behind
    however the processes end. It lies in /dev/shm if that is large enough, else in a temporary
    folder. Travels to spawned processes.
    """

    def __init__(self, metadata: Metadata, count: int, context: SpawnContext | None = None):
        context = context or multiprocessing.get_context("spawn")
        space = metadata.grid.shape
        self._state = (metadata.out_channels, *space)
        self._constants = (metadata.in_channels, *space)
        self._parameters = (len(metadata.parameters),)
        self._sizes = [4 * math.prod(self._state), 4 * math.prod(self._constants)]
        self._sizes = [-(-size // 8) * 8 for size in self._sizes]
        used = sum(self._sizes) + 8 * self._parameters[0]
        self.stride = -(-used // ALIGNMENT) * ALIGNMENT
        self.count = count
        self.memory: RawArray = context.RawArray("b", self.stride * count)
        np.frombuffer(self.memory, dtype=np.int8)[:] = 0  # all of it is there, or we know now

    def views(self) -> Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """State [c, *space] and constants, float32, and parameters [p], float64, of each slot."""
        return [self._view(k * self.stride) for k in range(self.count)]

    def _view(self, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        parts = []
        for shape, dtype, size in (
            (self._state, np.float32, self._sizes[0]),
            (self._constants, np.float32, self._sizes[1]),
            (self._parameters, np.float64, 0),
        ):
            number = math.prod(shape)
            parts.append(np.frombuffer(self.memory, dtype, number, start).reshape(shape))
            start += size
        return tuple(parts)
