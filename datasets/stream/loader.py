"""A stream as a loader of batches, in epochs of equal length."""

from collections.abc import Iterator
from typing import Any

from datasets.schema import Batch
from datasets.stream.stream import Stream


class StreamLoader:
    """An epoch is one of `epochs` equal parts of the stream; what does not fill them is left out.

    There are no workers to read ahead: the engine of the stream does that. The state is that of
    the stream, and continues in mid-epoch.
    """

    def __init__(self, stream: Stream, epochs: int):
        self.stream, self._length = stream, stream.limiter.steps // epochs

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.stream.batch()
            if self.stream.batches % self._length == 0:
                return

    @property
    def steps(self) -> int:
        """Batches in all."""
        return self.stream.limiter.steps

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.stream.load_state_dict(state)
