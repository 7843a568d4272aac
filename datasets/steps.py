"""The single steps of a window: what a model is fitted to that is fed with its own output."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from datasets.schema import Batch, Field, Frames, Metadata, Source


class Steps:
    """Steps of `bundle` frames as pairs (a `Source`), n of them from a window of n bundle frames.

        input   the `history` true frames before a step, constant fields, parameters
        target  the `bundle` frames after them

    Metadata are those of the model, whose window ends after one step. With `increments` the target
    is the change since the last frame of the input.
    """

    def __init__(self, windows: Source, bundle: int, *, increments: bool = False):
        self.windows, self.increments = windows, increments
        self.frames = step_frames(windows.metadata, bundle)
        self.num_steps = windows.metadata.frames.horizon // bundle
        if increments:
            require_closed(windows.metadata, "task.increments=true")
        self.metadata = self._metadata(windows.metadata)

    def __len__(self) -> int:
        return self.num_steps * len(self.windows)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Each window is read once, however many of its steps are asked for."""
        places = [divmod(int(index), self.num_steps) for index in indices]
        numbers = {window: row for row, window in enumerate(dict.fromkeys(w for w, _ in places))}
        batch = self.windows.__getitems__(list(numbers))
        rows = torch.tensor([numbers[window] for window, _ in places])
        step = torch.tensor([j for _, j in places])
        input, target = (torch.stack(s, dim=1)[rows, step] for s in self._all(batch))
        return Batch(input, target, batch.parameters[rows], batch.coordinates)

    def _all(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Inputs and targets of the steps of each window."""
        a, inputs, targets = batch.input, [], []
        for u in batch.target.chunk(self.num_steps, dim=1):
            inputs.append(a)
            targets.append(u - last_frame(a, self.frames) if self.increments else u)
            a = advance(a, u, self.frames) if self.num_steps > 1 else a
        return inputs, targets

    def _metadata(self, whole: Metadata) -> Metadata:
        per_frame = len(whole.target_fields) // whole.frames.horizon
        fields = whole.target_fields[: self.frames.horizon * per_frame]
        if self.frames.horizon == 1:
            fields = tuple(replace(f, name=f.name.removesuffix("[+1]")) for f in fields)
        if self.increments:
            fields = tuple(Field(f"change of {f.name}", f.units, f.components) for f in fields)
        return replace(whole, target_fields=fields, window=self.frames)


def step_frames(metadata: Metadata, bundle: int) -> Frames:
    """The frames of a model that gives `bundle` frames of the window; ValueError if these do not
    lead to its end.
    """
    frames = metadata.window
    if frames is None:
        raise ValueError(
            f"{metadata.name}: a steady map has no steps; a roll-out needs solutions over time. "
            "Take task=supervised."
        )
    if bundle < 1 or frames.horizon % bundle:
        raise ValueError(
            f"task.bundle={bundle} must divide the frames of the window, data.window.horizon="
            f"{frames.horizon}: a model that gives {bundle} frames at once does not end there."
        )
    if bundle < frames.horizon:
        require_closed(metadata, "more than one step")
        if frames.lead is not None and not frames.even:
            raise ValueError(
                f"{metadata.name}: frames lie at uneven times, but the lead time of a window is "
                "that of its first step; set data.window.horizon=task.bundle."
            )
    return frames._replace(horizon=bundle)


def require_closed(metadata: Metadata, purpose: str) -> None:
    """ValueError unless the target has every field of the state, so that it can be fed back."""
    frames = metadata.frames
    if metadata.out_channels != frames.horizon * frames.channels:
        raise ValueError(
            f"{metadata.name}: {purpose} needs every field of the state in the target, but some "
            "are given and not asked for; set data.window.given=[]."
        )


def last_frame(a: Tensor, frames: Frames) -> Tensor:
    """The newest frame of a window [b, c_in, *space], as often as a step has frames."""
    end = frames.history * frames.channels
    newest = a[:, end - frames.channels : end]
    return newest.repeat(1, frames.horizon, *[1] * (a.ndim - 2))


def advance(a: Tensor, u: Tensor, frames: Frames) -> Tensor:
    """The window after the frames u [b, k c, *space] have come: its last `history` frames, and
    what does not change in time.
    """
    end = frames.history * frames.channels
    past = torch.cat((a[:, :end], u), dim=1)[:, -end:]
    return torch.cat((past, a[:, end:]), dim=1)
