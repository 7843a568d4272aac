"""Samples in memory that is allocated once."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from datasets.stream.outputs import Outputs


class Storage:
    """`capacity` samples, each of the named `parts` one contiguous float32 tensor [capacity, ...].

    A sample is written where it stays and gathered from there: there are no objects per sample and
    nothing is allocated per batch, which is what collating lists of tensors spends its time on.
    """

    def __init__(self, capacity: int, parts: Mapping[str, tuple[int, ...]]):
        self.capacity = capacity
        # numpy asks for huge pages, torch does not; rows of 4 to 16 KiB are gathered 1.2 times as
        # fast from them.
        self._arrays = {n: np.zeros((capacity, *shape), np.float32) for n, shape in parts.items()}
        self.parts = {name: torch.from_numpy(array) for name, array in self._arrays.items()}
        self._outputs = Outputs(parts)

    def put(self, rows: np.ndarray, block: Mapping[str, np.ndarray]) -> None:
        """Write block [k, ...] of each part into rows [k], int64."""
        consecutive = len(rows) and rows[-1] - rows[0] == len(rows) - 1 and _rises(rows)
        places = slice(rows[0], rows[-1] + 1) if consecutive else rows
        for name, array in self._arrays.items():
            array[places] = block[name]

    def get(self, rows: np.ndarray) -> dict[str, Tensor]:
        """The rows [k] of each part, [k, ...]; good until the call after the next for as many."""
        found, index = self._outputs.next(len(rows)), torch.from_numpy(rows)
        for name, part in self.parts.items():
            torch.index_select(part, 0, index, out=found[name])
        return dict(found)

    def count(self, rows: int) -> int:
        """Samples that the first rows give to whom asks for samples by number."""
        return rows

    def first(self, numbers: np.ndarray) -> dict[str, Tensor]:
        """Those samples, in new memory."""
        return {name: part[torch.from_numpy(numbers)] for name, part in self.parts.items()}

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self.parts)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        for name, part in self.parts.items():
            part.copy_(state[name])


def _rises(rows: np.ndarray) -> bool:
    return len(rows) < 2 or bool((np.diff(rows) == 1).all())
