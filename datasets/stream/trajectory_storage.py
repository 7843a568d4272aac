"""Trajectories in memory that is allocated once, and the windows that are gathered from them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.stream.outputs import Outputs
from datasets.stream.storage import Storage
from datasets.stream.window_draws import WindowDraws
from datasets.stream.window_table import WindowTable

FIRST = 64  # windows of a trajectory that normalisers are fitted to


class TrajectoryStorage:
    """`capacity` trajectories, each frame once: [capacity, frames, c, *space] beside constant
    fields and parameters. What is given are windows, bitwise those of `Windows`, and only
    their frames are touched.

    `get` draws one window of each row (`WindowDraws`); `windows` gives those that are asked for.
    """

    def __init__(self, capacity: int, table: WindowTable, random: np.random.Generator):
        windows, state = table.windows, table.windows.trajectories.metadata
        space, self._channels = state.grid.shape, state.out_channels
        parts = {"frames": (len(table.kept), self._channels, *space)}
        if state.in_channels:
            parts["constants"] = (state.in_channels, *space)
        parts["parameters"] = (len(state.parameters),)
        self._table, self._whole = table, Storage(capacity, parts)
        self.parts = self._whole.parts
        self._frames = self.parts["frames"].flatten(0, 1)
        self._fields = self.parts["frames"].flatten(0, 2)  # one component of one frame each
        self.draws = WindowDraws(table, random)
        outputs = {
            "target": (windows.metadata.out_channels, *space),
            "numbers": (len(windows.metadata.parameters),),
        }
        if windows.history or state.in_channels:
            outputs["input"] = (windows.metadata.in_channels, *space)
        self._outputs = Outputs(outputs)
        self._shuffled = np.random.default_rng(0).permutation(len(table))

    def put(self, rows: np.ndarray, block: Mapping[str, np.ndarray]) -> None:
        """Write trajectories [k, ...] into rows [k], int64."""
        self._whole.put(rows, block)

    def get(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The parts of a window of each of the rows [k]; good until the call after the next."""
        return self.windows(rows, self.draws.draw(len(rows)), self._outputs.next(len(rows)))

    def windows(
        self, rows: np.ndarray, numbers: np.ndarray, found: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Windows by row and number [k], int64, written into `found`, or into new memory."""
        found = dict(found or self._outputs.new(len(rows)))
        windows, c, index = self._table.windows, self._channels, torch.from_numpy(rows)
        frames = rows[:, None] * len(self._table.kept) + self._table.frames[numbers]
        past, future = np.split(frames, [windows.history], axis=1)
        fields = torch.from_numpy(future[:, :, None] * c + windows.asked.numpy()).flatten()
        torch.index_select(self._fields, 0, fields, out=found["target"].flatten(0, 1))
        row, p = found["numbers"], self.parts["parameters"].shape[1]
        torch.index_select(self.parts["parameters"], 0, index, out=row[:, :p])
        if self._table.clock is not None:
            row[:, p] = torch.from_numpy(self._table.clock[numbers])
        if "input" not in found:
            return found
        input = found["input"]
        for k in range(windows.history):
            chosen = torch.from_numpy(past[:, k].copy())
            torch.index_select(self._frames, 0, chosen, out=input[:, k * c : (k + 1) * c])
        filled = windows.history * c
        if "constants" in self.parts:
            constants = self.parts["constants"]
            chosen, filled = slice(filled, filled + constants.shape[1]), filled + constants.shape[1]
            torch.index_select(constants, 0, index, out=input[:, chosen])
        if windows.parameters:
            input[:, filled:] = row.view(*row.shape, *[1] * (input.ndim - 2))
        return found

    def count(self, rows: int) -> int:
        """Samples that the first rows give to whom asks for samples by number."""
        return rows * min(FIRST, len(self._table))

    def first(self, numbers: np.ndarray) -> dict[str, Tensor]:
        """Those samples, in new memory: `FIRST` windows of each trajectory, others of the next."""
        each, every = min(FIRST, len(self._table)), len(self._table)
        rows, places = np.divmod(numbers, each)
        return self.windows(rows, self._shuffled[(rows * each + places) % every])

    def state_dict(self) -> dict[str, Any]:
        return {"whole": self._whole.state_dict(), "draws": self.draws.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._whole.load_state_dict(state["whole"])
        self.draws.load_state_dict(state["draws"])
