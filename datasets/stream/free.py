"""Rows that can be written."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class Free:
    """A stack of the rows in which nothing waits any more, those never written lowest.

    What was in a row stays there until the row is taken again, so that it can still be drawn.
    """

    def __init__(self, capacity: int):
        self._rows = list(range(capacity))[::-1]
        self._written = 0  # rows that were ever taken: 0, 1, ..., as new ones come in this order

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, count: int) -> list[int]:
        rows = [self._rows.pop() for _ in range(count)]
        self._written = max([self._written, *(row + 1 for row in rows)])
        return rows

    def give(self, row: int) -> None:
        self._rows.append(row)

    def again(self, random: np.random.Generator, count: int) -> list[int]:
        """Rows that hold a sample, uniformly with replacement; only where all rows are free."""
        return random.integers(0, self._written, count).tolist()

    def state_dict(self) -> dict[str, Any]:
        return {"rows": list(self._rows), "written": self._written}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rows, self._written = list(state["rows"]), state["written"]
