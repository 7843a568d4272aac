"""Samples between solvers and training."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.stream.past import Past
from datasets.stream.policy import Policy
from datasets.stream.storage import Storage
from datasets.stream.trajectory_storage import TrajectoryStorage


class Buffer:
    """A `Storage` whose rows a `Policy` decides over, and what became of each sample.

    `uses[k]` counts the samples that were drawn k times before their row was written anew;
    `mean_age` is the mean number of samples that came between the arrival of a sample and its
    eviction. In a `TrajectoryStorage` what is counted are trajectories. Rows from `capacity` on are
    samples of the `past`, and not counted.
    """

    def __init__(
        self, storage: Storage | TrajectoryStorage, policy: Policy, past: Past | None = None
    ):
        self.storage, self.policy, self.past = storage, policy, past
        # Of the sample in each row: simulation, frame, draws, and its number among the arrivals.
        self._of = np.full((4, policy.capacity), -1, dtype=np.int64)
        self.uses = np.zeros(1, dtype=np.int64)
        self.came = self._evicted = self._ages = 0

    def room(self) -> int:
        """Samples that can come in now."""
        return self.policy.room()

    def put(
        self, block: Mapping[str, np.ndarray], simulations: np.ndarray, frames: np.ndarray
    ) -> None:
        """The samples of a block [k, ...], with simulation and frame of each, [k]."""
        rows, which = self.policy.insert(len(simulations))
        self._evict(rows, self.came + which)
        as_they_are = len(which) == len(simulations) and (np.diff(which) == 1).all()
        chosen = block if as_they_are else {name: part[which] for name, part in block.items()}
        self.storage.put(rows, chosen)
        self._of[0, rows], self._of[1, rows] = simulations[which], frames[which]
        self._of[2, rows], self._of[3, rows] = 0, self.came + which
        self.came += len(simulations)

    def get(self, count: int, left: int | None = None) -> tuple[dict[str, Tensor], np.ndarray]:
        """The parts [count, ...] of a batch and the simulations of its samples. `left` as in
        `Policy.draw`.
        """
        rows = self.policy.draw(count, left)
        held = rows < self.policy.capacity
        np.add.at(self._of[2], rows[held], 1)
        rows_here = np.where(held, rows, 0)
        parts, simulations = self.storage.get(rows_here), self._of[0, rows_here]
        if not held.all():
            places, numbers = np.flatnonzero(~held), rows[~held] - self.policy.capacity
            read, simulations[places] = self.past.read(numbers.tolist())
            for name, part in parts.items():
                part.index_copy_(0, torch.from_numpy(places), read[name])
        return parts, simulations

    @property
    def filled(self) -> int:
        """Rows that hold a sample."""
        return int((self._of[3] >= 0).sum())

    @property
    def unseen(self) -> float:
        """Share of the stored samples that were never drawn."""
        stored = self._of[2, self._of[3] >= 0]
        return float((stored == 0).mean()) if len(stored) else 1.0

    @property
    def mean_age(self) -> float:
        return self._ages / self._evicted if self._evicted else float("nan")

    def _evict(self, rows: np.ndarray, numbers: np.ndarray) -> None:
        """Count what was in `rows` before the samples with these numbers come in."""
        held = self._of[3, rows] >= 0
        old = rows[held]
        found = np.bincount(self._of[2, old], minlength=len(self.uses))
        found[: len(self.uses)] += self.uses
        self.uses = found
        self._evicted += len(old)
        self._ages += int((numbers[held] - self._of[3, old]).sum())

    def state_dict(self) -> dict[str, Any]:
        return {
            "storage": self.storage.state_dict(),
            "policy": self.policy.state_dict(),
            "of": torch.from_numpy(self._of.copy()),
            "uses": torch.from_numpy(self.uses.copy()),
            "counts": [self.came, self._evicted, self._ages],
            "past": self.past.state_dict() if self.past is not None else {},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.storage.load_state_dict(state["storage"])
        self.policy.load_state_dict(state["policy"])
        self._of, self.uses = state["of"].numpy().copy(), state["uses"].numpy().copy()
        self.came, self._evicted, self._ages = state["counts"]
        if self.past is not None:
            self.past.load_state_dict(state["past"])
