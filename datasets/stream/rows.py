"""A set of rows that one can be drawn from."""

from collections.abc import Iterable


class Rows:
    """A set of whole numbers with an order of its own: add, remove and the k-th take O(1)."""

    def __init__(self, rows: Iterable[int] = ()):
        self._rows = list(rows)
        self._place = {row: k for k, row in enumerate(self._rows)}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, k: int) -> int:
        return self._rows[k]

    def __contains__(self, row: int) -> bool:
        return row in self._place

    def add(self, row: int) -> None:
        self._place[row] = len(self._rows)
        self._rows.append(row)

    def remove(self, row: int) -> None:
        self.take(self._place[row])

    def take(self, k: int) -> int:
        """Remove the k-th and return it; the last one takes its place."""
        row, last = self._rows[k], self._rows.pop()
        if last != row:
            self._rows[k], self._place[last] = last, k
        del self._place[row]
        return row

    def to_list(self) -> list[int]:
        return list(self._rows)
