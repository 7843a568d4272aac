"""Whole trajectories from frames."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.schema import Batch, Metadata
from datasets.stream.assembler import batch_of
from datasets.stream.events import Frame
from datasets.stream.policy import Policy
from datasets.stream.template import Template
from datasets.stream.trajectory_storage import TrajectoryStorage
from datasets.stream.window_table import WindowTable
from datasets.windows import Windows


class WholeTrajectories:
    """Gathers the frames of every simulation and gives them all at once, as soon as the last one is
    there that `window` uses; an `Assembler` that leaves the windows to its storage.

    A simulation that is left out before that gives nothing. The frames on their way are memory as
    well: one trajectory for each lane.
    """

    unit, per_simulation, per_client = "trajectories", 1, 1

    def __init__(self, metadata: Metadata, window: Mapping[str, Any] | None):
        if window is None or metadata.num_frames is None:
            raise ValueError(
                f"online/buffer=pairs: {metadata.name} is a steady map, there are no pairs of "
                "times; take online/buffer=reservoir."
            )
        windows = Windows(Template(metadata), **window)
        self.metadata, self.per_item = windows.metadata, len(windows)
        self._table = WindowTable(windows)
        self._shape = (len(self._table.kept), metadata.out_channels, *metadata.grid.shape)
        self._place = {frame: k for k, frame in enumerate(self._table.kept.tolist())}
        self._last = int(self._table.kept[-1])
        self._lanes: dict[int, _Trajectory] = {}
        self._whole: list[_Trajectory] = []
        self._coordinates = self.metadata.grid.mesh(torch.float32)

    @property
    def row_bytes(self) -> int:
        """Of the frames of a trajectory."""
        return 4 * math.prod(self._shape)

    def __len__(self) -> int:
        """Trajectories that wait."""
        return len(self._whole)

    def add(self, frame: Frame, live: bool) -> None:
        """A frame, copied; only a live one completes a trajectory."""
        if frame.number > self._last:
            return
        trajectory = self._lanes.get(frame.lane)
        if trajectory is None or trajectory.simulation != frame.simulation:
            if frame.constants is None or frame.parameters is None:
                raise RuntimeError(f"simulation {frame.simulation} began without its parameters.")
            trajectory = self._lanes[frame.lane] = _Trajectory.begun(frame, self._shape)
        if frame.number in self._place:
            trajectory.parts["frames"][self._place[frame.number]] = frame.state
        if frame.number == self._last:
            del self._lanes[frame.lane]
            if live:
                self._whole.append(trajectory)

    def take(self, count: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The oldest `count` trajectories that wait: their parts [count, ...], their simulations,
        and the number of their last frame.
        """
        taken, self._whole = self._whole[:count], self._whole[count:]
        block = {name: np.stack([t.parts[name] for t in taken]) for name in taken[0].parts}
        simulations = np.array([t.simulation for t in taken])
        return block, simulations, np.full(count, self._last)

    def batch(self, parts: Mapping[str, Tensor]) -> Batch:
        """What a model is trained on, from the parts [b, ...] of its windows."""
        return batch_of(parts, self._coordinates)

    def storage(self, policy: Policy) -> TrajectoryStorage:
        return TrajectoryStorage(policy.capacity, self._table, policy.random)

    def state_dict(self) -> dict[str, Any]:
        """The trajectories that wait; frames on their way are sent again."""
        return {
            "whole": [
                (t.simulation, {n: torch.from_numpy(part) for n, part in t.parts.items()})
                for t in self._whole
            ]
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._lanes.clear()
        self._whole = [
            _Trajectory(simulation, {n: part.numpy() for n, part in parts.items()})
            for simulation, parts in state["whole"]
        ]


@dataclass(frozen=True)
class _Trajectory:
    """Of one simulation `frames` [k, c, *space], `constants` [c, *space], `parameters` [p]."""

    simulation: int
    parts: dict[str, np.ndarray]

    @classmethod
    def begun(cls, frame: Frame, shape: tuple[int, ...]) -> "_Trajectory":
        parts = {
            "frames": np.empty(shape, np.float32),
            "constants": frame.constants.copy(),
            "parameters": frame.parameters.astype(np.float32),
        }
        return cls(frame.simulation, parts)
