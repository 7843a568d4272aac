"""Which pair of times is drawn next."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from datasets.stream.window_table import WindowTable


class WindowDraws:
    """Numbers of windows of a solution, such that every lead time is drawn equally often.

    Strides come in rounds, each once in a round, in random order: after any number of draws their
    counts differ by 1 at most. Given its stride the first frame of a window is uniform, so of S
    strides that have n_s windows each

        p(window) = 1 / (S n_s)

    and long lead times, which have fewer windows, are not rarer than short ones.
    """

    def __init__(self, table: WindowTable, random: np.random.Generator):
        self._begins, self._counts, self._random = table.begins, table.counts, random
        self._round = np.empty(0, dtype=np.int64)  # strides that are still to come in it

    def draw(self, count: int) -> np.ndarray:
        """Numbers [count]."""
        while len(self._round) < count:
            another = self._random.permutation(len(self._counts))
            self._round = np.concatenate((self._round, another))
        which, self._round = self._round[:count], self._round[count:]
        places = (self._random.random(count) * self._counts[which]).astype(np.int64)
        return self._begins[which] + places

    def state_dict(self) -> dict[str, Any]:
        """Without that of the random numbers, which are somebody else's."""
        return {"round": self._round.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._round = np.array(state["round"], dtype=np.int64)
