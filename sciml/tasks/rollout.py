"""Learning a time step from the trajectory that it unrolls to."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from datasets.normalize import Normalizer
from datasets.schema import Batch, Metadata, Source
from datasets.steps import Steps, last_frame, step_frames
from sciml.tasks.part import Part
from sciml.tasks.task import Task
from sciml.tasks.unroll import Pushforward, TeacherForcing, ThroughTime, unrolled


class Rollout(Task):
    """Fits a step from `history` frames to the next `bundle` ones, which is fed with its own output
    until it reaches the end of a window of n bundle frames.

        u_1 = S(a_0),   a_j = the last `history` frames of (a_(j-1), u_j) and the constant fields,
        u_(j+1) = S(a_j),     S(a) = D( model( N(a) ) )

    Calling the task unrolls all n steps, and so does validation. In training `unroll` says what
    goes into a step and which steps count: `ThroughTime`, `TeacherForcing` or `Pushforward`.
    Normalisers belong to single steps (`datasets.steps.Steps`), so that a frame leaves and enters
    with statistics over all steps. More frames in a `bundle` are fewer steps to the same time
    (temporal bundling, Brandstetter et al. 2022, arXiv:2202.03376).

    `noise` is the standard deviation of Gaussian noise on the frames that enter a step in
    training, in units of their own, while the target stays as it is [Sanchez-Gonzalez et al. 2020,
    arXiv:2002.09405, who add a random walk over the frames]. With `increments` the model gives the
    change since the last frame instead, S(a) = u + D(model(N(a))), with statistics of the change.
    Lead times that differ between windows hold for each of their steps.
    """

    def __init__(
        self,
        model: nn.Module,
        metadata: Metadata,
        *,
        bundle: int = 1,
        unroll: TeacherForcing | ThroughTime | Pushforward,
        noise: float = 0.0,
        increments: bool = False,
        loss: nn.Module,
        optimizer: Callable[[Iterable[Parameter]], Optimizer],
        schedule: Callable[[Optimizer, int], LRScheduler],
        input_normalizer: Normalizer,
        target_normalizer: Normalizer,
    ):
        super().__init__(
            model,
            metadata,
            loss=loss,
            optimizer=optimizer,
            schedule=schedule,
            input_normalizer=input_normalizer,
            target_normalizer=target_normalizer,
        )
        if not 0 <= noise < torch.inf:
            raise ValueError(f"task.noise={noise} must not be negative.")
        self.bundle, self.frames = bundle, step_frames(metadata, bundle)
        self._unroll, self._noise, self._increments = unroll, noise, increments

    @classmethod
    def pairs(cls, source: Source, settings: Mapping[str, Any]) -> Source:
        return Steps(
            source, settings.get("bundle", 1), increments=settings.get("increments", False)
        )

    def step(self, a: Tensor) -> Tensor:
        u = self.in_units(a)
        return u + last_frame(a, self.frames) if self._increments else u

    def forward(self, a: Tensor) -> Tensor:
        steps = self.metadata.frames.horizon // self.bundle
        return torch.cat(list(unrolled(self.step, a, self.frames, steps)), dim=1)

    def training_parts(self, batch: Batch) -> list[Part]:
        step = self._noisy_step if self._noise else self.step
        if self.bundle == self.metadata.frames.horizon:  # one step: all ways are the same
            return [self.misfit(step(batch.input), batch.target)]
        return [self.misfit(*self._unroll(step, batch.input, batch.target, self.frames))]

    def _noisy_step(self, a: Tensor) -> Tensor:
        end = self.frames.history * self.frames.channels
        std = self.input_normalizer.std[:end].to(a.dtype).view(-1, *[1] * (a.ndim - 2))
        noise = self._noise * std * torch.randn_like(a[:, :end])
        return self.step(torch.cat((a[:, :end] + noise, a[:, end:]), dim=1))
