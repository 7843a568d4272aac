"""Which samples a buffer keeps, and which it gives: an order of row numbers and nothing more."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np


class Policy(ABC):
    """Decides over `capacity` rows without ever seeing what lies in them.

    A sample that a policy has no `room` for waits where it is, and in the end its solver waits. If
    fewer samples come than were planned, because simulations were left out, policies that use up
    their samples draw again from rows that still hold one, so that the number of steps stays.
    """

    def __init__(self, capacity: int):
        if capacity < 1:
            raise ValueError(f"online.buffer.capacity={capacity} must be at least 1.")
        self.capacity = capacity

    def start(self, *, batch_size: int, reuse: float, samples: int, seed: int) -> None:
        """The draws per sample and the samples to come; ValueError for what does not fit."""
        if self.capacity < batch_size:
            raise ValueError(
                f"online.buffer.capacity={self.capacity} holds no batch of {batch_size}; raise it, "
                "or lower batch_size."
            )
        self.batch_size, self.reuse, self.samples = batch_size, reuse, samples
        self.random = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0x0B])))

    @abstractmethod
    def watermark(self) -> int:
        """Samples that had better be in before the first draw."""

    @abstractmethod
    def room(self) -> int:
        """How many samples can come in now."""

    @abstractmethod
    def insert(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows [m] that are written and which of the `count` new samples goes into each, [m]: one
        may go into several, or into none.
        """

    @abstractmethod
    def draw(self, count: int, left: int | None) -> np.ndarray:
        """Rows [count] of a batch. `left` is None while samples come, then the number of draws that
        are left until the end, these included.
        """

    def state_dict(self) -> dict[str, Any]:
        return {"random": self.random.bit_generator.state, **self.rows()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.random.bit_generator.state = state["random"]
        self.set_rows(state)

    @abstractmethod
    def rows(self) -> dict[str, Any]:
        """What decides over the next draws, beside the random numbers, in plain values."""

    @abstractmethod
    def set_rows(self, state: Mapping[str, Any]) -> None:
        """Inverse of `rows`."""


def require_once(policy: str, reuse: float) -> None:
    """ValueError unless every sample is used once."""
    if reuse != 1:
        raise ValueError(
            f"online.reuse={reuse:g}: {policy} gives every sample exactly once; set "
            "online.reuse=1, or take online/buffer=reservoir or quota."
        )
