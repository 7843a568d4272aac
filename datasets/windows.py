"""Windows of trajectories: some frames go in, the following ones come out."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from datasets.schema import Batch, Field, Frames, Metadata
from datasets.trajectories import Trajectories

LEAD, TIME = "lead_time", "time"


class Windows:
    """Pairs of `history` frames and the `horizon` frames that follow (a `Source`).

        input   u(t - (history - 1) s) ... u(t - s), u(t), constant fields, parameters
        target  u(t + s), ..., u(t + horizon s)               s = stride * dt

    Frames lie one after another in the channels, the oldest first. With `stride=(1, 8)` every
    stride from 1 to 8 gives windows of its own, and the lead time s is one more parameter; it is
    also one where the frames are not equidistant, for then it differs from window to window.
    Parameters are channels that are constant in space, unless `parameters=False`; they are in the
    batch in any case. `every` is the distance of the first frames of consecutive windows, `first`
    and `last` bound the frames that are used, `last` excluded. Fields named in `given` go in and
    are not asked for, such as the time.

    With `history=0` no frame goes in: where parameters say everything about a solution, a window
    is a map of them and of the time t,

        input   constant fields, parameters, t        target  u(t), ..., u(t + (horizon - 1) s)

    t is the last parameter, `time`; s is the same for all windows. There are no steps then, so
    `metadata.window` is None, and `first=1` leaves the initial state out.

    Only the frames of the windows that are asked for are read, so the length of a trajectory does
    not matter. Windows of one trajectory stay together: split trajectories, not windows.
    """

    def __init__(
        self,
        trajectories: Trajectories,
        *,
        history: int = 1,
        horizon: int = 1,
        stride: int | Sequence[int] = 1,
        every: int = 1,
        first: int = 0,
        last: int | None = None,
        parameters: bool = True,
        given: Sequence[str] = (),
    ):
        low, high = (stride, stride) if isinstance(stride, int) else _pair(stride)
        for name, value in (("horizon", horizon), ("stride", low)):
            if value < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if history < 0:
            raise ValueError(f"history={history} must be at least 0.")
        if history == 0:
            _require_parameters_say_all(trajectories.metadata, parameters, low, high)
        if every < 1 or first < 0:
            raise ValueError(f"every={every} must be at least 1 and first={first} at least 0.")
        self.trajectories, self.history, self.horizon = trajectories, history, horizon
        self.strides, self.every, self.parameters = (low, high), every, parameters
        self.first, self.last = first, last
        state = trajectories.metadata.target_fields
        unknown = sorted(set(given) - {field.name for field in state})
        if unknown or len(set(given)) == len(state):
            raise ValueError(
                f"given={list(given)} must be some of the fields {[f.name for f in state]}, "
                "not all."
            )
        asked = [[f.name not in given] * f.components for f in state]
        self._given, self.asked = tuple(given), torch.tensor(sum(asked, [])).nonzero()[:, 0]
        self._ends: list[list[int]] = []  # by trajectory: windows up to each stride
        regular = True
        for index in range(len(trajectories)):
            times = trajectories.times(index)
            frames = len(times) if last is None else min(last, len(times))
            counts = [self._count(frames - first, s) for s in range(low, high + 1)]
            self._ends.append(list(accumulate(counts)))
            steps = times[1:] - times[:-1]
            regular = regular and (len(steps) == 0 or _equal(steps, trajectories.metadata.dt))
        self._starts = [0, *accumulate(ends[-1] for ends in self._ends)]
        if self._starts[-1] == 0:
            longest = max((len(trajectories.times(i)) for i in range(len(trajectories))), default=0)
            raise ValueError(
                f"{trajectories.metadata.name}: no window of history={history} and "
                f"horizon={horizon} frames at stride={low} fits the frames from {first} to "
                f"{longest if last is None else last}; the longest trajectory has {longest}."
            )
        self.even, self.leads = regular, history > 0 and (low != high or not regular)
        self._clock = TIME if history == 0 else LEAD if self.leads else None
        self.metadata = self._metadata(trajectories.metadata)
        self._coordinates = self.metadata.grid.mesh(torch.float32)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        inputs, targets, rows = zip(*(self._window(int(i)) for i in indices), strict=True)
        return Batch(
            torch.stack(inputs), torch.stack(targets), torch.stack(rows), self._coordinates
        )

    def first_of(self, trajectory: int) -> int | None:
        """The first window of a trajectory, that of the smallest stride; None if it has none."""
        none = self._ends[trajectory][0] == 0
        return None if none else self._starts[trajectory]

    def place(self, index: int) -> tuple[int, int, int]:
        """Trajectory, first frame and stride of a window."""
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}.")
        trajectory = bisect_right(self._starts, index) - 1
        rest, ends = index - self._starts[trajectory], self._ends[trajectory]
        which = bisect_right(ends, rest)
        number = rest - (ends[which - 1] if which else 0)
        return trajectory, self.first + self.every * number, self.strides[0] + which

    def _count(self, frames: int, stride: int) -> int:
        span = (self.history + self.horizon - 1) * stride + 1
        return max(0, (frames - span) // self.every + 1)

    def _window(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        trajectory, start, stride = self.place(index)
        whole, number = self.trajectories, self.history + self.horizon
        frames = slice(start, start + (number - 1) * stride + 1, stride)
        u = whole.read(trajectory, frames)
        row = whole.parameters(trajectory)
        if self._clock:
            times = whole.times(trajectory)[frames]
            since = times[self.history - 1] if self.history else 0.0
            row = torch.cat((row, row.new_tensor([times[self.history] - since])))
        parts = [u[: self.history].flatten(0, 1), whole.constants(trajectory)]
        if self.parameters and len(row):
            parts.append(row.view(-1, *[1] * (u.dim() - 2)).expand(-1, *u.shape[2:]))
        return torch.cat(parts), u[self.history :, self.asked].flatten(0, 1), row

    def _metadata(self, state: Metadata) -> Metadata:
        names = (*state.parameters, self._clock) if self._clock else state.parameters
        past = [-(self.history - 1) + k for k in range(self.history)]
        future = [min(self.history, 1) + k for k in range(self.horizon)]
        constants = state.input_fields
        if self.parameters:
            constants += tuple(Field(name) for name in names)
        inputs = (*_shifted(state.target_fields, past), *constants)
        dt = None if self._clock or state.dt is None else state.dt * self.strides[0]
        last = sum(f.components for f in inputs) - 1
        frames = Frames(
            self.history,
            self.horizon,
            sum(f.components for f in state.target_fields),
            dt,
            last if self.leads and self.parameters else None,
            self.even,
        )
        return replace(
            state,
            input_fields=inputs,
            target_fields=_shifted(
                [f for f in state.target_fields if f.name not in self._given], future
            ),
            parameters=names,
            dt=dt,
            num_frames=None,
            window=frames if self.history else None,
        )


def _shifted(fields: Sequence[Field], offsets: Sequence[int]) -> tuple[Field, ...]:
    """The fields by their names, with their place in the window if there are several."""
    if len(offsets) == 1:
        return tuple(fields)
    return tuple(replace(f, name=f"{f.name}[{k:+d}]") for k in offsets for f in fields)


def _require_parameters_say_all(state: Metadata, parameters: bool, low: int, high: int) -> None:
    """ValueError for what a window without frames cannot have."""
    if not parameters:
        raise ValueError(
            "history=0 and parameters=False: the time of a window would not go in; set "
            "parameters=true, or history=1."
        )
    if low != high:
        raise ValueError(
            f"stride=[{low}, {high}] with history=0: windows of several strides would have the "
            "same input; set stride to one number, every time is a window already."
        )
    if TIME in state.parameters:
        raise ValueError(
            f"{state.name}: has a parameter `{TIME}` of its own; history=0 adds the time of a "
            "frame under this name, set history=1."
        )


def _pair(stride: Sequence[int]) -> tuple[int, int]:
    if len(stride) != 2 or stride[0] > stride[1]:
        raise ValueError(
            f"stride={list(stride)} must be a number, or the smallest and the largest."
        )
    return stride[0], stride[1]


def _equal(steps, dt: float | None) -> bool:
    step = float(steps[0]) if dt is None else dt
    return bool(abs(steps - step).max() <= 1e-4 * abs(step))
