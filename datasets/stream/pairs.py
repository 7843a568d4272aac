"""The buffer of trajectories: each is drawn about equally often."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.policy import Policy


class Pairs(Policy):
    """Rows hold whole trajectories. A draw of a row is a draw of one of its windows, that is of a
    pair of times (`WindowDraws`), so a solution of T frames takes the memory of these, not that of
    its T^2 / 2 pairs.

        drawn      with p ~ 1 / (1 + u), u the draws of the trajectory so far; within a batch none
                   comes again before all others have come
        evicted    with p ~ u, so none that was never drawn

    Independent draws would be even as well, but a trajectory that has just come would fill the next
    batches: for 64 rows and 400 draws of each, four fifths of the first batch of 32.

    With R draws per trajectory, C rows and batches of B, in the stationary state for large R and
    C / B, the continuous limit du/dt ~ 1/u with hazard ~ u says that u^3 is exponential when a
    trajectory leaves:

        draws of a trajectory    mean R, variance (Gamma(5/3) / Gamma(4/3)^2 - 1) R^2 = 0.13 R^2;
                                 of uniform draws and evictions, as in `Reservoir`, it is R^2
        age at eviction          C trajectories in the mean, more than 2 C with probability 0.09

    For C = 2 B the variance is 0.17 R^2. So old solutions stay for some time; eviction of the most
    used one would make the buffer a queue. `reuse` below 1 means that not all windows are drawn;
    there must be at least one draw per trajectory. After the last one has come those never drawn
    have precedence as soon as there are no more draws than these.
    """

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        # A row gives many windows, so the buffer may have fewer rows than a batch.
        super().start(batch_size=1, reuse=reuse, samples=samples, seed=seed)
        if reuse < 1:
            raise ValueError(
                f"online.reuse: {reuse:g} draws per trajectory, which are online.reuse times its "
                "windows, are fewer than trajectories come; raise online.reuse until there is one "
                "at least."
            )
        self._uses = np.full(self.capacity, -1, dtype=np.int64)  # -1 is an empty row

    def watermark(self) -> int:
        return max(1, min(self.capacity, self.samples // 2))

    def room(self) -> int:
        return int((self._uses != 0).sum())

    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.flatnonzero(self._uses < 0)[:count]
        used = np.flatnonzero(self._uses > 0)
        evicted = self._some(used, self._uses[used], count - len(rows))
        rows = np.concatenate((rows, evicted))
        self._uses[rows] = 0
        return rows, np.arange(count)

    def draw(self, count: int, left: int | None) -> np.ndarray:
        stored = np.flatnonzero(self._uses >= 0)
        rounds, rest = divmod(count, len(stored))
        self._uses[stored] += rounds
        weights = 1 / (1 + self._uses[stored])
        unseen = self._uses[stored] == 0
        if left is not None and unseen.sum() > left - count:
            weights[unseen] = np.inf
        rows = self._some(stored, weights, rest)
        self._uses[rows] += 1
        return np.concatenate((np.tile(stored, rounds), rows))

    def _some(self, rows: np.ndarray, weights: np.ndarray, count: int) -> np.ndarray:
        """`count` of `rows`, one after another with probabilities ~ `weights`, none twice: those
        with the smallest E / w, E exponential [Efraimidis & Spirakis 2006].
        """
        if count in (0, len(rows)):
            return rows[:count]
        keys = self.random.exponential(size=len(rows)) / weights
        return rows[np.argpartition(keys, count - 1)[:count]]

    def rows(self) -> dict[str, Any]:
        return {"uses": self._uses.tolist()}

    def set_rows(self, state: Mapping[str, Any]) -> None:
        self._uses = np.array(state["uses"], dtype=np.int64)
