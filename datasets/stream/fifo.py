"""First in, first out."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.free import Free
from datasets.stream.policy import Policy, require_once


class Fifo(Policy):
    """Every sample once, in the order of arrival [Meyer et al. 2023, arXiv:2306.16133].

    Batches hold what was computed side by side: the least training signal for the most recent
    data. The reference that other buffers are measured by.
    """

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        super().start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        require_once("fifo", reuse)
        self._queue: deque[int] = deque()
        self._free = Free(self.capacity)

    def watermark(self) -> int:
        """Some, that normalisers can be fitted to."""
        return max(1, min(self.capacity - self.batch_size, self.samples // 2))

    def room(self) -> int:
        return len(self._free)

    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._free.take(count)
        self._queue.extend(rows)
        return np.array(rows, dtype=np.int64), np.arange(count)

    def draw(self, count: int, left: int | None) -> np.ndarray:
        drawn = [self._queue.popleft() for _ in range(min(count, len(self._queue)))]
        for row in reversed(drawn):
            self._free.give(row)
        if len(drawn) < count:
            drawn += self._free.again(self.random, count - len(drawn))
        return np.array(drawn, dtype=np.int64)

    def rows(self) -> dict[str, Any]:
        return {"queue": list(self._queue), "free": self._free.state_dict()}

    def set_rows(self, state: Mapping[str, Any]) -> None:
        self._queue = deque(state["queue"])
        self._free.load_state_dict(state["free"])
