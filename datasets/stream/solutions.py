"""The solutions of a stream that came in whole, in the store or still in memory."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.manifest import Shard
from datasets.reader import ShardedSource, ShardedTrajectories
from datasets.schema import Batch, Metadata
from datasets.stream.solution import Solution

MAX_OPEN = 64


class Solutions:
    """Solutions by the number of their simulation (`Trajectories`), each read from its shard in
    the folder `path` or, until that is committed, from memory: the numbers are bitwise the same.

    `count` is the number of simulations of the study, `samples` says which of them the committed
    samples are. A steady map is a trajectory of one frame, its constant fields are the input.
    At most `MAX_OPEN` files are open; parameters are remembered, each is a dataset of its own.
    """

    def __init__(self, path: Path, metadata: Metadata, count: int, samples: Sequence[int]):
        self.metadata, self._count = metadata, count
        frames = 1 if metadata.num_frames is None else metadata.num_frames
        self._times = np.arange(frames) * (metadata.dt or 0.0)
        steady = metadata.num_frames is None
        kind = ShardedSource if steady else ShardedTrajectories
        self._shards = kind(path, "train", max_open=MAX_OPEN)
        self._stored = _OneFrame(self._shards) if steady else self._shards
        self._rows = {simulation: row for row, simulation in enumerate(samples)}
        self._kept: dict[int, Solution] = {}
        self._parameters: dict[int, Tensor] = {}

    def __contains__(self, simulation: int) -> bool:
        """Whether it can be read."""
        return simulation in self._kept or simulation in self._rows

    def committed(self, simulation: int) -> bool:
        """Whether it can be read by another process, too."""
        return simulation in self._rows

    def keep(self, solution: Solution) -> None:
        """Hold a whole solution in memory until its shard is committed."""
        self._kept[solution.simulation] = solution

    def require_same(self, solution: Solution) -> None:
        """ValueError if a committed solution has other parameters than the one that came."""
        i = solution.simulation
        if i in self._rows and not torch.allclose(self.parameters(i), solution.parameters()):
            raise ValueError(
                f"online.tee: holds simulation {i} with other parameters, those of another run; "
                "give a new folder."
            )

    def commit(self, shard: Shard, simulations: Sequence[int]) -> None:
        """A new shard and the simulations in it: they are read from there from now on."""
        self._shards.grow(shard)
        for row, simulation in enumerate(simulations, shard.samples[0]):
            self._rows[simulation] = row
            self._kept.pop(simulation, None)

    def __len__(self) -> int:
        return self._count

    def times(self, index: int) -> np.ndarray:
        return self._times

    def read(self, index: int, frames: slice) -> Tensor:
        kept = self._kept.get(index)
        return kept.read(frames) if kept else self._stored.read(self._rows[index], frames)

    def constants(self, index: int) -> Tensor:
        kept = self._kept.get(index)
        return kept.constants() if kept else self._stored.constants(self._rows[index])

    def parameters(self, index: int) -> Tensor:
        if index not in self._parameters:
            kept = self._kept.get(index)
            found = kept.parameters() if kept else self._stored.parameters(self._rows[index])
            self._parameters[index] = found
        return self._parameters[index]


class SteadyPairs:
    """Solutions of a steady map as pairs (a `Source`)."""

    def __init__(self, solutions: Solutions):
        self._solutions, self.metadata = solutions, solutions.metadata
        self._coordinates = self.metadata.grid.mesh(torch.float32)

    def __len__(self) -> int:
        return len(self._solutions)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        whole = self._solutions
        pairs = [
            (whole.constants(i), whole.read(i, slice(1))[0], whole.parameters(i)) for i in indices
        ]
        input, target, parameters = map(torch.stack, zip(*pairs, strict=True))
        return Batch(input, target, parameters, self._coordinates)


class _OneFrame:
    """The stored pairs of a steady map as trajectories of one frame. The last pair is remembered,
    for it is asked for in three pieces.
    """

    def __init__(self, pairs: ShardedSource):
        self._pairs, self._row = pairs, -1

    def read(self, row: int, frames: slice) -> Tensor:
        return self._pair(row).target[frames]

    def constants(self, row: int) -> Tensor:
        return self._pair(row).input[0]

    def parameters(self, row: int) -> Tensor:
        return self._pair(row).parameters[0]

    def _pair(self, row: int) -> Batch:
        if row != self._row:
            self._pair_of_row, self._row = self._pairs.__getitems__([row]), row
        return self._pair_of_row
