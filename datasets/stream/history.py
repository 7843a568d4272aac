"""Fresh samples beside all that ever came."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.policy import Policy
from datasets.stream.reservoir import Reservoir


class History(Policy):
    """Two tiers: the share `fresh` of every batch comes from a `Reservoir` of recent samples, the
    rest from a uniform sample of everything that ever came.

    Rows are divided in the same proportion. In the second tier sample number t takes each row with
    probability 1 / t (algorithm R [Vitter 1985, ACM TOMS 11, doi:10.1145/3147.3165]), so that it is
    a uniform sample without replacement at every time. With r draws per sample the first tier
    draws each fresh r times in the mean; fresh r must be at least 1.

    A window of C samples knows those simulations alone that were under way in its time; the second
    tier remembers others, and the batch spans more of them.
    """

    def __init__(self, capacity: int, fresh: float = 0.5):
        super().__init__(capacity)
        require_share(fresh)
        self.fresh = fresh

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        super().start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        first, draws = round(self.fresh * self.capacity), round(self.fresh * batch_size)
        if not 0 < first < self.capacity or not 0 < draws < batch_size:
            raise ValueError(
                f"online.buffer.fresh={self.fresh} leaves one tier without a row of "
                f"capacity={self.capacity} or a sample of batch_size={batch_size}; move it towards "
                "0.5, or raise them."
            )
        require_flow(self.fresh, draws, batch_size, reuse)
        self._recent = Reservoir(first)
        self._recent.start(
            batch_size=1, reuse=draws * reuse / batch_size, samples=samples, seed=seed
        )
        self._recent.random = self.random
        self._came = 0  # samples so far

    def watermark(self) -> int:
        return self._recent.watermark()

    def room(self) -> int:
        return self._recent.room()

    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows, which = self._recent.insert(count)
        kept: dict[int, int] = {}
        for k, chance in enumerate(self.random.random(count).tolist()):
            self._came += 1
            place = self._came - 1 if self._came <= self._past else int(chance * self._came)
            if place < self._past:
                kept[self._recent.capacity + place] = k
        past = np.array([list(kept), list(kept.values())], dtype=np.int64)
        return np.concatenate((rows, past[0])), np.concatenate((which, past[1]))

    def draw(self, count: int, left: int | None) -> np.ndarray:
        fresh = round(self.fresh * count)
        recent = self._recent.draw(fresh, None if left is None else left // count * fresh)
        size = min(self._came, self._past)
        past = self._recent.capacity + (self.random.random(count - fresh) * size).astype(np.int64)
        return np.concatenate((recent, past))

    @property
    def _past(self) -> int:
        """Rows of the second tier."""
        return self.capacity - self._recent.capacity

    def rows(self) -> dict[str, Any]:
        return {"recent": self._recent.rows(), "came": self._came}

    def set_rows(self, state: Mapping[str, Any]) -> None:
        self._recent.set_rows(state["recent"])
        self._came = state["came"]


def require_share(fresh: float) -> None:
    """ValueError unless both tiers have a part."""
    if not 0 < fresh < 1:
        raise ValueError(f"online.buffer.fresh={fresh} must lie between 0 and 1.")


def require_flow(fresh: float, draws: int, batch_size: int, reuse: float) -> None:
    """ValueError if recent samples come faster than `draws` of each batch use them."""
    if draws * reuse < batch_size:
        raise ValueError(
            f"online.buffer.fresh={fresh} with reuse={reuse:g}: {draws} fresh samples in "
            f"a batch of {batch_size} are fewer than come; raise fresh or online.reuse until "
            "fresh * reuse is at least 1."
        )
