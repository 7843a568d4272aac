"""Errors of a step that is fed with its own output, over the whole length of test trajectories."""

import math
from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np
import torch
from torch import Tensor

from datasets.steps import advance
from datasets.windows import Windows
from sciml.evaluation.rollout_errors import RolloutErrors
from sciml.norms import l2_norm

BLOW_UP = 10.0  # times the largest norm of the truth so far


def evaluate_rollout(
    step: Callable[[Tensor], Tensor],
    windows: Windows,
    bundle: int,
    *,
    prefix: str,
    batch_size: int,
    like: Tensor,
) -> RolloutErrors | None:
    """Roll-outs of `step`, a window [b, c_in, *space] -> the next `bundle` frames [b, bundle c,
    *space], from the first window of every trajectory to its end, in physical units.

    `step` may be a trained task or, where a window is one frame and nothing else, a numerical
    solver. Fields that are given, parameters and lead times enter as the data say; all other
    fields are the step's own. None if there is but one frame to predict, if no frame goes in, or if
    windows begin at the first frame alone: a model of (u(0), t) -> u(t) never saw another one.

    A roll-out has blown up once it is not finite or its norm exceeds `BLOW_UP` times the largest
    one of the truth so far; from then on its error is infinite and its correlation 0.
    """
    if windows.history == 0 or _from_the_first_alone(windows):
        return None
    found = [
        row
        for indices in _alike(windows, batch_size)
        for row in _Run(step, windows, bundle, indices, like).rows()
    ]
    longest = max((len(row[0]) for row in found), default=0)
    if longest < 2:
        return None
    padded = np.full((4, len(found), longest), np.nan)
    for number, row in enumerate(found):
        padded[:, number, : len(row[0])] = row
    return RolloutErrors(prefix, *padded)


class _Run:
    """Some trajectories of one length at once."""

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        windows: Windows,
        bundle: int,
        indices: list[int],
        like: Tensor,
    ):
        self.step, self.windows, self.bundle, self.indices = step, windows, bundle, indices
        self.like, self.frames = like, windows.metadata.frames
        self.places = _places(windows, indices[0])
        self.times = np.stack([windows.trajectories.times(i)[self.places] for i in indices])

    @torch.no_grad()
    def rows(self) -> Iterator[np.ndarray]:
        """Times, errors, errors of persistence and correlations of each trajectory, [4, k]."""
        windows, history = self.windows, self.frames.history
        first = [windows.first_of(i) for i in self.indices]
        a = windows.__getitems__(first).input
        start = self._truth(history - 1)[:, windows.asked]
        largest, blown, columns = l2_norm(start.double()), torch.zeros(len(a), dtype=bool), []
        for now in range(history, len(self.places), self.bundle):
            a = self._with_lead(a, now)
            predicted = self.step(a.to(self.like)).to(a.device, a.dtype)
            coming = []
            for k, u in enumerate(predicted.chunk(self.bundle, dim=1)):
                if now + k == len(self.places):
                    break
                truth = self._truth(now + k)
                largest = torch.maximum(largest, l2_norm(truth[:, windows.asked].double()))
                blown = blown | ~(l2_norm(u.double()) <= BLOW_UP * largest).all(dim=1)
                columns.append(_measured(u, truth[:, windows.asked], start, blown))
                coming.append(truth.index_copy(1, windows.asked, u))
            a = advance(a, torch.cat(coming, dim=1), self.frames)
        passed = self.times[:, history:] - self.times[:, history - 1 : history]
        return iter(np.stack((passed, *np.stack(columns, axis=-1)), axis=1))

    def _truth(self, place: int) -> Tensor:
        """A frame of every trajectory, [b, c, *space]."""
        frame, read = self.places[place], self.windows.trajectories.read
        return torch.cat([read(i, slice(frame, frame + 1)) for i in self.indices])

    def _with_lead(self, a: Tensor, now: int) -> Tensor:
        if self.frames.lead is None:
            return a
        a, lead = a.clone(), self.times[:, now] - self.times[:, now - 1]
        a[:, self.frames.lead] = torch.as_tensor(lead).to(a).view(-1, *[1] * (a.ndim - 2))
        return a


def _alike(windows: Windows, size: int) -> Iterator[list[int]]:
    """Trajectories with a window, `size` consecutive ones with as many frames at a time."""
    usable = (i for i in range(len(windows.trajectories)) if windows.first_of(i) is not None)
    for _, group in groupby(usable, lambda i: len(_places(windows, i))):
        same = list(group)
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _from_the_first_alone(windows: Windows) -> bool:
    """Whether windows could begin at later frames of the trajectories, and `every` forbids it."""
    span = (windows.history + windows.horizon - 1) * windows.strides[0] + 1
    ends = (_last(windows, i) - windows.first - span for i in range(len(windows.trajectories)))
    return all(0 < rest < windows.every for rest in ends)


def _last(windows: Windows, index: int) -> int:
    frames = len(windows.trajectories.times(index))
    return frames if windows.last is None else min(windows.last, frames)


def _places(windows: Windows, index: int) -> list[int]:
    """The frames of a roll-out, the input's among them, in the smallest stride."""
    return list(range(windows.first, _last(windows, index), windows.strides[0]))


def _measured(u: Tensor, truth: Tensor, start: Tensor, blown: Tensor) -> np.ndarray:
    """Error, error of persistence, correlation: means over the channels that have them, [3, b]."""
    u, truth, start = u.double(), truth.double(), start.double()
    norm = l2_norm(truth)
    norm = torch.where(norm > 0, norm, torch.nan)
    error = (l2_norm(u - truth) / norm).nanmean(dim=1)
    still = (l2_norm(start - truth) / norm).nanmean(dim=1)
    correlation = _correlation(u, truth).nanmean(dim=1)
    error = torch.where(blown, math.inf, error)
    return torch.stack((error, still, torch.where(blown, 0.0, correlation))).numpy()


def _correlation(u: Tensor, v: Tensor) -> Tensor:
    """Pearson's, over the grid points, [b, c]; NaN where v is constant, 0 where u is."""
    u, v = (w.flatten(2) - w.flatten(2).mean(dim=2, keepdim=True) for w in (u, v))
    size_u, size_v = u.norm(dim=2), v.norm(dim=2)
    ratio = (u * v).sum(dim=2) / (size_u * size_v).clamp_min(1e-300)
    return torch.where(size_v > 0, ratio, torch.nan)
