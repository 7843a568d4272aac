"""A policy run through a stream without any data: which sample is drawn when, and what leaves."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.limiter import Limiter
from datasets.stream.policy import Policy


class Lockstep:
    """Samples 0, 1, ... go through `policy` at the pace of the `Limiter`; where there is no room
    they come later. `came` of the `samples` planned arrive in the end.

    After `run`: `drawn` and `rows` [k, b] of all batches, `inserts` and `unseen` [k], samples that
    came before each batch and the share of the stored ones that were never drawn, the mean of
    before and after it. Of every eviction `gone` has sample, row, draws and age.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        samples: int,
        batch_size: int,
        reuse: float,
        seed: int = 0,
        watermark: int | None = None,
        came: int | None = None,
    ):
        policy.start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        first = policy.watermark() if watermark is None else watermark
        self.limiter = Limiter(samples, first, reuse, batch_size)
        self.policy, self.came = policy, samples if came is None else came
        self.held = np.full(policy.capacity, -1)  # sample in each row
        self.uses = np.zeros(policy.capacity, dtype=np.int64)
        self.inserted = 0
        self.drawn, self.rows, self.inserts, self.unseen, self.stored = [], [], [], [], []
        self.gone: Any = []

    def run(self, batches: int | None = None) -> "Lockstep":
        """All batches, or as many more."""
        left = self.limiter.steps - len(self.drawn)
        for _ in range(left if batches is None else batches):
            self.step()
        return self

    def step(self) -> np.ndarray:
        """The samples of the next batch."""
        k, size = len(self.drawn), self.limiter.batch_size
        due = min(self.limiter.arrived(k), self.came) - self.inserted
        count = min(due, self.policy.room())
        self.insert(count)
        over = self.inserted == self.came
        before = self._unseen()
        rows = self.draw(size, (self.limiter.steps - k) * size if over else None)
        self.inserts.append(count)
        self.unseen.append((before + self._unseen()) / 2)
        self.stored.append(int((self.held >= 0).sum()))
        self.rows.append(rows)
        self.drawn.append(self.held[rows])
        return self.drawn[-1]

    def insert(self, count: int) -> np.ndarray:
        rows, which = self.policy.insert(count)
        numbers = self.inserted + which
        old = rows[self.held[rows] >= 0]
        ages = numbers[self.held[rows] >= 0] - self.held[old]
        self.gone += np.stack((self.held[old], old, self.uses[old], ages), axis=1).tolist()
        self.held[rows], self.uses[rows] = numbers, 0
        self.inserted += count
        return rows

    def draw(self, count: int, left: int | None = None) -> np.ndarray:
        rows = self.policy.draw(count, left)
        np.add.at(self.uses, rows, 1)
        return rows

    def _unseen(self) -> float:
        stored = self.uses[self.held >= 0]
        return float((stored == 0).mean()) if len(stored) else 1.0

    @property
    def counts(self) -> np.ndarray:
        """Draws of each sample that came."""
        return np.bincount(np.concatenate(self.drawn), minlength=self.came)

    @property
    def longest_gap(self) -> int:
        """Draws between two insertions, while samples come."""
        batches = np.flatnonzero(self.inserts)
        return int(np.diff(batches).max()) * self.limiter.batch_size


def columns(gone: Any) -> Mapping[str, np.ndarray]:
    """Samples that left: which, from which row, after how many draws and at which age."""
    return dict(zip(("sample", "row", "uses", "age"), np.array(gone).T, strict=True))
