"""First in, random out."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.free import Free
from datasets.stream.policy import Policy, require_once
from datasets.stream.rows import Rows


class Firo(Policy):
    """Every sample once, drawn uniformly from those that wait, of which there are never fewer than
    `threshold` until the last has come [Meyer et al. 2023, arXiv:2306.16133].

    The population stays at the threshold, by default as large as fits beside a batch, and that is
    also the mean number of samples that come between a sample's arrival and its draw.
    """

    def __init__(self, capacity: int, threshold: int | None = None):
        super().__init__(capacity)
        self._threshold = threshold

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        super().start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        require_once("firo", reuse)
        most = self.capacity - batch_size
        if self._threshold is not None and not 1 <= self._threshold <= most:
            raise ValueError(
                f"online.buffer.threshold={self._threshold} must lie between 1 and {most}, the "
                "capacity less a batch."
            )
        self._waiting = Rows()
        self._free = Free(self.capacity)

    def watermark(self) -> int:
        if self._threshold is not None:
            return self._threshold
        return max(1, min(self.capacity - self.batch_size, self.samples // 2))

    def room(self) -> int:
        return len(self._free)

    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._free.take(count)
        for row in rows:
            self._waiting.add(row)
        return np.array(rows, dtype=np.int64), np.arange(count)

    def draw(self, count: int, left: int | None) -> np.ndarray:
        drawn = []
        for chance in self.random.random(min(count, len(self._waiting))).tolist():
            row = self._waiting.take(int(chance * len(self._waiting)))
            self._free.give(row)
            drawn.append(row)
        if len(drawn) < count:
            drawn += self._free.again(self.random, count - len(drawn))
        return np.array(drawn, dtype=np.int64)

    def rows(self) -> dict[str, Any]:
        return {"waiting": self._waiting.to_list(), "free": self._free.state_dict()}

    def set_rows(self, state: Mapping[str, Any]) -> None:
        self._waiting = Rows(state["waiting"])
        self._free.load_state_dict(state["free"])
