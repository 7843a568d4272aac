"""The reservoir: new samples push out such that were used."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.policy import Policy
from datasets.stream.rows import Rows


class Reservoir(Policy):
    """Draws uniformly, with replacement; a new sample takes the row of one that was drawn at least
    once, chosen uniformly [Meyer et al. 2023, arXiv:2309.16743, section 3.2].

    No sample leaves unused: where all rows hold unseen ones nothing can come in, and solvers wait.
    With r draws per sample and C rows, in the stationary state

        share of unseen samples     1 / r
        draws of a sample           1 + geometric: mean r, variance r (r - 1), once with 1 / r
        age at eviction             C samples in the mean (Little's law)

    so this is a window of recent samples with soft edges and no uniform sample of all that came
    (`History` has one), and r must exceed 1 for the stream to flow. After the last sample has come,
    unseen ones are given precedence at random, so that each is used at least once if there are as
    many draws left.
    """

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        super().start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        if reuse < 1:
            raise ValueError(
                f"online.reuse={reuse:g}: with fewer draws than samples a reservoir fills with "
                "unseen ones and stops; set at least 1."
            )
        self._free = list(range(self.capacity))[::-1]
        self._seen, self._unseen = Rows(), Rows()

    def watermark(self) -> int:
        return min(self.capacity, self.samples // 2)

    def room(self) -> int:
        return len(self._free) + len(self._seen)

    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = []
        for _ in range(count):
            rows.append(self.vacate())
            self.admit(rows[-1])
        return np.array(rows, dtype=np.int64), np.arange(count)

    def vacate(self) -> int:
        """A row for something new, out of reach of draws until it is admitted."""
        if self._free:
            return self._free.pop()
        return self._seen.take(int(self.random.random() * len(self._seen)))

    def admit(self, row: int) -> None:
        """The row holds something new."""
        self._unseen.add(row)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not self._seen and not self._unseen

    def draw(self, count: int, left: int | None) -> np.ndarray:
        rows, seen, unseen = [], self._seen, self._unseen
        stored, fresh = len(seen) + len(unseen), len(unseen)
        # A draw is of an unseen sample for certain where there are more of these than its bound.
        bounds = [math.inf] * count
        if left is not None:
            bounds = (self.random.random(count) * (left - np.arange(count))).tolist()
        for chance, bound in zip(self.random.random(count).tolist(), bounds, strict=True):
            place = int(chance * (fresh if fresh > bound else stored))
            if place < fresh:
                row = unseen.take(place)
                seen.add(row)
                fresh -= 1
            else:
                row = seen[place - fresh]
            rows.append(row)
        return np.array(rows, dtype=np.int64)

    def rows(self) -> dict[str, Any]:
        return {
            "free": list(self._free),
            "seen": self._seen.to_list(),
            "unseen": self._unseen.to_list(),
        }

    def set_rows(self, state: Mapping[str, Any]) -> None:
        self._free = list(state["free"])
        self._seen, self._unseen = Rows(state["seen"]), Rows(state["unseen"])
