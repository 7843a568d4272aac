"""Samples from frames: what windows of stored solutions are, made while the frames arrive."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.schema import Batch, Metadata
from datasets.stream.events import Frame
from datasets.stream.policy import Policy
from datasets.stream.storage import Storage
from datasets.stream.template import Template
from datasets.windows import Windows


class Assembler:
    """Makes the samples that `Windows` cuts from stored solutions, each as soon as its last frame
    is there, and keeps them until they are taken.

    Of every lane the frames are remembered that windows to come still need. Samples are kept in
    parts: `target` [c_out, *space], `numbers` [p], the parameters and the time, and `input`
    [c_in, *space]; where numbers are all that goes in, `input` is left out. A steady map is one
    sample, of constant fields and the one frame.

    What is put into a buffer is an item, here a sample: `per_simulation` of them, each with
    `per_item` windows that can be drawn, and a buffer should hold `per_client` of them at least.
    """

    unit, per_item, per_client = "samples", 1, 2

    def __init__(self, metadata: Metadata, window: Mapping[str, Any] | None):
        self._state = metadata
        if window is None:
            self.metadata, self._asked = metadata, slice(None)
            self._windows: dict[int, list[tuple[int, int]]] = {0: [(0, 1)]}
            self._history, self._horizon = 0, 1
            self._with_numbers = self._has_time = self._has_lead = False
        else:
            windows = Windows(Template(metadata), **window)
            self.metadata, self._asked = windows.metadata, windows.asked.numpy()
            self._history, self._horizon = windows.history, windows.horizon
            self._with_numbers = windows.parameters
            self._has_time, self._has_lead = windows.history == 0, windows.leads
            self._windows = _by_last_frame(windows)
        self.per_simulation = sum(map(len, self._windows.values()))
        self._needed = _last_use(self._windows, self._history + self._horizon)
        space = self.metadata.grid.shape
        self.parts: dict[str, tuple[int, ...]] = {
            "target": (self.metadata.out_channels, *space),
            "numbers": (len(self.metadata.parameters),),
        }
        fields = self._history * metadata.out_channels + metadata.in_channels
        if fields:
            self.parts["input"] = (self.metadata.in_channels, *space)
        self._lanes: dict[int, _Lane] = {}
        self._kept = {
            name: np.empty((16, *shape), np.float32) for name, shape in self.parts.items()
        }
        self._places = np.empty((16, 2), np.int64)
        self._start = self._stop = 0
        self._coordinates = self.metadata.grid.mesh(torch.float32)

    @property
    def row_bytes(self) -> int:
        """Of a sample in a buffer."""
        return 4 * sum(map(math.prod, self.parts.values()))

    def __len__(self) -> int:
        """Samples that wait."""
        return self._stop - self._start

    def add(self, frame: Frame, live: bool) -> None:
        """A frame; only a live one completes samples. Nothing of it is referred to afterwards."""
        lane = self._lanes.get(frame.lane)
        if lane is None or lane.simulation != frame.simulation:
            if frame.constants is None or frame.parameters is None:
                raise RuntimeError(f"simulation {frame.simulation} began without its parameters.")
            lane = _Lane(frame)
            self._lanes[frame.lane] = lane
        number = frame.number
        if self._needed.get(number, -1) >= number:
            lane.frames[number] = frame.state.copy()
        if live:
            for start, stride in self._windows.get(number, ()):
                self._stage(lane, start, stride, number)
        for old in [k for k in lane.frames if self._needed[k] <= number]:
            del lane.frames[old]

    def take(self, count: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The oldest `count` samples that wait: their parts [count, ...], simulations and frames.
        Good until the next sample is added.
        """
        rows = slice(self._start, self._start + count)
        self._start += count
        block = {name: kept[rows] for name, kept in self._kept.items()}
        places = self._places[rows]
        if self._start == self._stop:
            self._start = self._stop = 0
        return block, places[:, 0], places[:, 1]

    def batch(self, parts: Mapping[str, Tensor]) -> Batch:
        """What a model is trained on, from the parts [b, ...] of its samples."""
        return batch_of(parts, self._coordinates)

    def storage(self, policy: Policy) -> Storage:
        """Where the rows that a policy decides over lie."""
        return Storage(policy.capacity, self.parts)

    def _stage(self, lane: "_Lane", start: int, stride: int, number: int) -> None:
        i = self._next_row()
        frames = [lane.frames[start + k * stride] for k in range(self._history + self._horizon)]
        numbers = self._numbers(lane, start, stride)
        self._kept["numbers"][i] = numbers
        if "input" in self._kept:
            input, channel = self._kept["input"][i], 0
            for part in (*frames[: self._history], lane.constants):
                input[channel : channel + len(part)] = part
                channel += len(part)
            if self._with_numbers:
                input[channel:] = numbers.reshape(-1, *[1] * (input.ndim - 1))
        target = self._kept["target"][i].reshape(self._horizon, -1, *self.metadata.grid.shape)
        for k, u in enumerate(frames[self._history :]):
            target[k] = u[self._asked]
        self._places[i] = lane.simulation, number

    def _numbers(self, lane: "_Lane", start: int, stride: int) -> np.ndarray:
        numbers, dt = lane.parameters, self._state.dt
        if self._has_time:
            numbers[-1] = start * dt
        elif self._has_lead:
            first = start + (self._history - 1) * stride
            numbers[-1] = (first + stride) * dt - first * dt
        else:
            return numbers[:-1]
        return numbers

    def _next_row(self) -> int:
        """A free row behind those that wait."""
        size = len(self._places)
        if self._stop == size:
            waiting = slice(self._start, self._stop)
            count = self._stop - self._start
            grown = size if count <= size // 2 else 2 * size
            for name, kept in (*self._kept.items(), (None, self._places)):
                moved = np.empty((grown, *kept.shape[1:]), kept.dtype)
                moved[:count] = kept[waiting]
                if name is None:
                    self._places = moved
                else:
                    self._kept[name] = moved
            self._start, self._stop = 0, count
        self._stop += 1
        return self._stop - 1

    def state_dict(self) -> dict[str, Any]:
        """The samples that wait; frames are sent again."""
        rows = slice(self._start, self._stop)
        kept = {name: torch.from_numpy(k[rows].copy()) for name, k in self._kept.items()}
        return {"kept": kept, "places": torch.from_numpy(self._places[rows].copy())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._start = self._stop = 0
        self._lanes.clear()
        for row in range(len(state["places"])):
            i = self._next_row()
            self._places[i] = state["places"][row].numpy()
            for name, kept in state["kept"].items():
                self._kept[name][i] = kept[row].numpy()


def batch_of(parts: Mapping[str, Tensor], coordinates: Tensor) -> Batch:
    """From `target`, `numbers`, and `input` unless numbers are all that goes in, each [b, ...]."""
    numbers, input = parts["numbers"], parts.get("input")
    if input is None:
        space = coordinates.shape[1:]
        input = numbers.view(*numbers.shape, *[1] * len(space)).expand(-1, -1, *space)
    return Batch(input, parts["target"], numbers, coordinates)


class _Lane:
    """What is remembered of a simulation under way."""

    def __init__(self, frame: Frame):
        self.simulation = frame.simulation
        self.constants = frame.constants.copy()
        self.parameters = np.append(frame.parameters, 0.0).astype(np.float32)  # and a time
        self.frames: dict[int, np.ndarray] = {}


def _by_last_frame(windows: Windows) -> dict[int, list[tuple[int, int]]]:
    """First frame and stride of the windows that end with each frame."""
    found: dict[int, list[tuple[int, int]]] = {}
    for index in range(len(windows)):
        _, start, stride = windows.place(index)
        last = start + (windows.history + windows.horizon - 1) * stride
        found.setdefault(last, []).append((start, stride))
    return found


def _last_use(windows: Mapping[int, Sequence[tuple[int, int]]], length: int) -> dict[int, int]:
    """The last frame that each frame has to wait for."""
    needed: dict[int, int] = {}
    for last, some in windows.items():
        for start, stride in some:
            for k in range(length):
                frame = start + k * stride
                needed[frame] = max(needed.get(frame, -1), last)
    return needed
