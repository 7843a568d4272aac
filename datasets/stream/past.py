"""Every sample that a stream has given, as long as its solution came in whole."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.stream.events import Frame
from datasets.stream.solutions import Solutions, SteadyPairs
from datasets.windows import Windows


class Past:
    """The samples of the solutions that came in whole, numbered by the order in which the last
    frames of these were counted: of w windows per solution

        sample n = window (n mod w) of solution floor(n / w)

    So number and sample follow from the order of the arrivals alone; whether a solution lies in
    the store or waits in memory is nowhere to be seen. A sample has the parts and the numbers,
    bit by bit, that the `Assembler` gave it.

    The state is the order of the solutions, without their frames. Those that no shard holds when
    it is saved, because the disk refused them, are lost to a run that goes on from it.
    """

    def __init__(self, solutions: Solutions, window: Mapping[str, Any] | None):
        self._solutions = solutions
        self._source = SteadyPairs(solutions) if window is None else Windows(solutions, **window)
        self._per_solution = len(self._source) // len(solutions)
        self._last = len(solutions.times(0)) - 1
        self._whole: list[int] = []

    def __len__(self) -> int:
        """Samples that can be read."""
        return len(self._whole) * self._per_solution

    def count(self, frame: Frame) -> None:
        """A frame was counted; the last one makes its solution whole."""
        if frame.number == self._last and frame.simulation in self._solutions:
            self._whole.append(frame.simulation)

    def read(self, numbers: Sequence[int]) -> tuple[dict[str, Tensor], np.ndarray]:
        """The parts [k, ...] of samples and their simulations [k]."""
        w = self._per_solution
        simulations = np.array([self._whole[n // w] for n in numbers], dtype=np.int64)
        places = [i * w + n % w for i, n in zip(simulations.tolist(), numbers, strict=True)]
        batch = self._source.__getitems__(places)
        parts = {"target": batch.target, "numbers": batch.parameters, "input": batch.input}
        return parts, simulations

    def state_dict(self) -> dict[str, Any]:
        whole = [i for i in self._whole if self._solutions.committed(i)]
        return {"whole": torch.tensor(whole, dtype=torch.int64)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._whole = state["whole"].tolist()
        missing = [i for i in self._whole if i not in self._solutions]
        if missing:
            raise ValueError(
                f"online.tee: {len(missing)} of {len(self._whole)} solutions that the checkpoint "
                "draws from are not in the recording; give the folder as the run left it, or "
                "begin anew."
            )
