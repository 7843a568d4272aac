"""A reservoir of whole batches."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.policy import Policy
from datasets.stream.reservoir import Reservoir


class BatchReservoir(Policy):
    """The law of `Reservoir` for blocks of a batch of consecutive arrivals: what came together is
    drawn together.

    One random number per batch, and reading in one piece; the samples of a batch are as alike as
    those of `Fifo`. A last block that no batch fills is never drawn, unless nothing else came.
    """

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        super().start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        if self.capacity < 2 * batch_size:
            raise ValueError(
                f"online.buffer.capacity={self.capacity} holds fewer than two batches of "
                f"{batch_size}, one that fills and one to draw; raise it, or lower batch_size."
            )
        self._blocks = Reservoir(self.capacity // batch_size)
        self._blocks.start(
            batch_size=1, reuse=reuse, samples=max(samples // batch_size, 1), seed=seed
        )
        self.random = self._blocks.random
        self._begun: list[int] = []  # rows of the block that fills which are still to be written

    def watermark(self) -> int:
        return min(max(self._blocks.watermark(), 1) * self.batch_size, self.samples)

    def room(self) -> int:
        return len(self._begun) + self._blocks.room() * self.batch_size

    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        rows = []
        for _ in range(count):
            if not self._begun:
                start = self._blocks.vacate() * self.batch_size
                self._begun = list(range(start, start + self.batch_size))
            rows.append(self._begun.pop(0))
            if not self._begun:
                self._blocks.admit(rows[-1] // self.batch_size)
        return np.array(rows, dtype=np.int64), np.arange(count)

    def draw(self, count: int, left: int | None) -> np.ndarray:
        if count != self.batch_size:
            raise ValueError(f"blocks of {self.batch_size} samples give no batch of {count}.")
        if self._blocks.empty:
            return self._from_the_first_block(count)
        blocks_left = None if left is None else left // self.batch_size
        [block] = self._blocks.draw(1, blocks_left)
        return block * self.batch_size + np.arange(self.batch_size)

    def _from_the_first_block(self, count: int) -> np.ndarray:
        """Before it is whole: from what there is of it."""
        written = self.batch_size - len(self._begun)
        return self._begun[0] - written + self.random.integers(0, written, count)

    def rows(self) -> dict[str, Any]:
        return {"begun": list(self._begun), "blocks": self._blocks.rows()}

    def set_rows(self, state: Mapping[str, Any]) -> None:
        self._begun = list(state["begun"])
        self._blocks.set_rows(state["blocks"])
