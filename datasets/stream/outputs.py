"""Memory that batches are written into."""

from collections.abc import Mapping

import torch
from torch import Tensor


class Outputs:
    """Two sets of named tensors [k, ...] for every k, which take turns, so that a step may still be
    at work on a batch while the next one is gathered. They lie in pinned memory where there is a
    GPU.
    """

    def __init__(self, parts: Mapping[str, tuple[int, ...]]):
        self._parts = dict(parts)
        self._made: dict[int, list[dict[str, Tensor]]] = {}

    def next(self, count: int) -> dict[str, Tensor]:
        """A set of `count` rows, the same one again in the call after the next for as many."""
        turn = self._made.setdefault(count, [])
        if len(turn) < 2:
            turn.append(self.new(count, pinned=torch.cuda.is_available()))
        turn.reverse()
        return turn[0]

    def new(self, count: int, pinned: bool = False) -> dict[str, Tensor]:
        """A set that nobody else has."""
        return {n: torch.zeros(count, *s, pin_memory=pinned) for n, s in self._parts.items()}
