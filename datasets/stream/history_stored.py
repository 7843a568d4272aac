"""Fresh samples beside all that ever came, which lie in the store."""

from collections.abc import Mapping, Sized
from typing import Any

import numpy as np

from datasets.stream.history import require_flow, require_share
from datasets.stream.policy import Policy
from datasets.stream.reservoir import Reservoir


class HistoryStored(Policy):
    """Two tiers: the share `fresh` of every batch comes from a `Reservoir` of `capacity` recent
    samples in memory, the rest uniformly, with replacement, from all samples of all solutions that
    came in whole so far (`Past`), which a stream that is recorded (`online.tee`) has in its store.

    `History` keeps some of them in memory and draws from these; here every one can be drawn at any
    time, whatever their number, and reading costs time. Row `capacity + n` stands for sample n of
    the second tier. Before any solution is whole, all of a batch comes from the first tier.

    With r draws per sample the first tier draws each fresh r times in the mean; fresh r must be at
    least 1.
    """

    def __init__(self, capacity: int, fresh: float = 0.5):
        super().__init__(capacity)
        require_share(fresh)
        self.fresh = fresh
        self._past: Sized = ()

    def read_from(self, past: Sized) -> None:
        """What the second tier is; without it there is none."""
        self._past = past

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        super().start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        draws = round(self.fresh * batch_size)
        if not 0 < draws < batch_size:
            raise ValueError(
                f"online.buffer.fresh={self.fresh} leaves one tier without a sample of "
                f"batch_size={batch_size}; move it towards 0.5, or raise batch_size."
            )
        require_flow(self.fresh, draws, batch_size, reuse)
        self._recent = Reservoir(self.capacity)
        self._recent.start(
            batch_size=1, reuse=draws * reuse / batch_size, samples=samples, seed=seed
        )
        self._recent.random = self.random

    def watermark(self) -> int:
        return self._recent.watermark()

    def room(self) -> int:
        return self._recent.room()

    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        return self._recent.insert(count)

    def draw(self, count: int, left: int | None) -> np.ndarray:
        size = len(self._past)
        if size == 0:
            return self._recent.draw(count, left)
        fresh = round(self.fresh * count)
        recent = self._recent.draw(fresh, None if left is None else left // count * fresh)
        past = (self.random.random(count - fresh) * size).astype(np.int64)
        return np.concatenate((recent, self.capacity + past))

    def rows(self) -> dict[str, Any]:
        return {"recent": self._recent.rows()}

    def set_rows(self, state: Mapping[str, Any]) -> None:
        self._recent.set_rows(state["recent"])
