"""Ways to unroll a step in training: what goes into each step, and which steps count.

`unroll(step, a, target, frames)` gives a prediction and its target, [b, k c, *space] both, for the
loss. `step` maps a window a [b, c_in, *space] to the next frames, [b, bundle c, *space]; `target`
[b, n bundle c, *space] are the true frames of n steps.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from datasets.schema import Frames
from datasets.steps import advance

Step = Callable[[Tensor], Tensor]


def unrolled(step: Step, a: Tensor, frames: Frames, steps: int) -> Iterator[Tensor]:
    """The frames of each step, fed back into the window: the model's own roll-out."""
    for _ in range(steps):
        u = step(a)
        yield u
        a = advance(a, u, frames)


class TeacherForcing:
    """Every step begins with true frames: one-step errors, at n places of a trajectory."""

    def __call__(
        self, step: Step, a: Tensor, target: Tensor, frames: Frames
    ) -> tuple[Tensor, Tensor]:
        predictions = []
        for u in target.split(frames.horizon * frames.channels, dim=1):
            predictions.append(step(a))
            a = advance(a, u, frames)
        return torch.cat(predictions, dim=1), target


class ThroughTime:
    """Every step begins with the frames of the step before; gradients go back through all of them.

    With `last` only so many steps at the end count, and gradients stop where they begin: the steps
    before them run free.
    """

    def __init__(self, last: int | None = None):
        if last is not None and last < 1:
            raise ValueError(f"ThroughTime: last={last} must be at least 1 step, or null for all.")
        self.last = last

    def __call__(
        self, step: Step, a: Tensor, target: Tensor, frames: Frames
    ) -> tuple[Tensor, Tensor]:
        width = frames.horizon * frames.channels
        steps = target.shape[1] // width
        counted = min(self.last or steps, steps)
        free = steps - counted
        return _counted(step, _freely(step, a, frames, free), target, frames, free, counted)


class Pushforward:
    """A free run of 0 to n - 1 steps without gradients, drawn for each batch, and one step that
    counts: the model learns to come back from its own errors.

    [Brandstetter, Worrall & Welling 2022, ICLR, arXiv:2202.03376, section 3.1]. A run of 0 steps
    is their one-step loss; they add it to that of a longer run, here one of them is drawn from
    torch's global random state, which checkpoints keep.
    """

    def __call__(
        self, step: Step, a: Tensor, target: Tensor, frames: Frames
    ) -> tuple[Tensor, Tensor]:
        width = frames.horizon * frames.channels
        free = int(torch.randint(target.shape[1] // width, ()))
        return _counted(step, _freely(step, a, frames, free), target, frames, free, 1)


def _freely(step: Step, a: Tensor, frames: Frames, steps: int) -> Tensor:
    """The window after so many steps of which no gradient is kept."""
    with torch.no_grad():
        for u in unrolled(step, a, frames, steps):
            a = advance(a, u, frames)
    return a


def _counted(
    step: Step, a: Tensor, target: Tensor, frames: Frames, free: int, counted: int
) -> tuple[Tensor, Tensor]:
    width = frames.horizon * frames.channels
    prediction = torch.cat(list(unrolled(step, a, frames, counted)), dim=1)
    return prediction, target[:, free * width : (free + counted) * width]
