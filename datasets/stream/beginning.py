"""What is known of a stream before the training."""

from collections.abc import Sequence

import numpy as np

from datasets.schema import Batch, Metadata
from datasets.stream.stream import Stream


class Beginning:
    """Samples that are in the buffer before the first batch is drawn (a `Source`): all of them, or
    some windows of each trajectory. Whoever asks waits until the watermark is reached.
    """

    def __init__(self, stream: Stream):
        self._stream = stream
        self.metadata: Metadata = stream.assembler.metadata

    def __len__(self) -> int:
        self._stream.fill()
        return self._stream.buffer.storage.count(self._stream.inserted)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        self._stream.fill()
        numbers = np.asarray(indices, dtype=np.int64)
        return self._stream.assembler.batch(self._stream.buffer.storage.first(numbers))
