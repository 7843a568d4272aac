"""Equal use of all samples."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.free import Free
from datasets.stream.policy import Policy
from datasets.stream.rows import Rows


class Quota(Policy):
    """Every sample is drawn exactly `reuse` times, a whole number r, uniformly from those that have
    draws left; then its row is free.

    The variance of uses is 0, where that of `Reservoir` is r (r - 1), and in all r N draws are
    made, none of a sample that was never used. Uniform draws let rows expire one after another, so
    that samples come in at an even pace; passes through the buffer would let all expire at
    once, and solvers wait for (r - 1) C draws. In the stationary state samples have (r + 1) / 2
    draws left in the mean, so the watermark C (r + 1) / (2 r) starts there.

    Equal use is not better learning: samples stay for a shorter time than the oldest of a
    reservoir, so fewer simulations are seen side by side (docs/online.md).
    """

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        super().start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        if reuse < 1 or reuse != int(reuse):
            raise ValueError(
                f"online.reuse={reuse:g}: quota draws every sample the same number of times; set a "
                "whole number, at least 1."
            )
        self._free = Free(self.capacity)
        self._left = [0] * self.capacity
        self._live = Rows()

    def watermark(self) -> int:
        r = int(self.reuse)
        stationary = self.capacity * (r + 1) // (2 * r)
        return max(1, min(stationary, self.capacity - self.batch_size, self.samples // 2))

    def room(self) -> int:
        return len(self._free)

    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._free.take(count)
        for row in rows:
            self._left[row] = int(self.reuse)
            self._live.add(row)
        return np.array(rows, dtype=np.int64), np.arange(count)

    def draw(self, count: int, left: int | None) -> np.ndarray:
        drawn = []
        for chance in self.random.random(count).tolist():
            if not self._live:
                break
            row = self._live[int(chance * len(self._live))]
            drawn.append(row)
            self._left[row] -= 1
            if self._left[row] == 0:
                self._live.remove(row)
                self._free.give(row)
        if len(drawn) < count:
            drawn += self._free.again(self.random, count - len(drawn))
        return np.array(drawn, dtype=np.int64)

    def rows(self) -> dict[str, Any]:
        return {
            "free": self._free.state_dict(),
            "left": list(self._left),
            "live": self._live.to_list(),
        }

    def set_rows(self, state: Mapping[str, Any]) -> None:
        self._free.load_state_dict(state["free"])
        self._left, self._live = list(state["left"]), Rows(state["live"])
