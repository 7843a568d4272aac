"""Batches in an order that depends on (seed, epoch) alone, and can be taken up in mid-epoch."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from datasets.schema import Batch, Source


class EpochBatches:
    """Index lists of one epoch after another: a permutation drawn from (seed, epoch), cut into
    batches.

    Iterating starts `epoch` at batch `start` and moves neither; `ResumableLoader` does. Without
    `shuffle` the order is 0, 1, 2 ... The last batch may be short.
    """

    def __init__(self, num_samples: int, batch_size: int, *, seed: int, shuffle: bool):
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1.")
        self.num_samples, self.batch_size = num_samples, batch_size
        self.seed, self.shuffle = seed, shuffle
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return -(-self.num_samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.arange(self.num_samples)
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.num_samples, generator=generator)
        for indices in list(order.split(self.batch_size))[self.start :]:
            yield indices.tolist()


class ResumableLoader(DataLoader):
    """A DataLoader over a `Source` whose state is (epoch, batches handed out).

    `state_dict` counts the batches that the training loop has received, not those that workers
    have fetched ahead, so a run that continues from it sees exactly the samples it has not yet
    seen. Lightning stores and restores this state in its checkpoints. The loader has a generator
    of its own and leaves the global random state alone.
    """

    def __init__(
        self, source: Source, batch_size: int, *, seed: int, shuffle: bool, num_workers: int = 0
    ):
        self._batches = EpochBatches(len(source), batch_size, seed=seed, shuffle=shuffle)
        self._received = 0
        super().__init__(
            source,
            batch_sampler=self._batches,
            num_workers=num_workers,
            collate_fn=_as_read,
            generator=torch.Generator().manual_seed(seed),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=num_workers > 0,
        )

    def __iter__(self) -> Iterator[Batch]:
        if self._received > self._batches.start:  # the last iterator was used: a new epoch begins
            self._batches.epoch, self._batches.start = self._batches.epoch + 1, 0
        self._received = self._batches.start
        for batch in super().__iter__():
            self._received += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._batches.epoch, "received": self._received}

    def load_state_dict(self, state: dict[str, int]) -> None:
        epoch, received = int(state["epoch"]), int(state["received"])
        if received >= len(self._batches):
            epoch, received = epoch + 1, 0
        self._batches.epoch = epoch
        self._batches.start = self._received = received


def _as_read(batch: Batch) -> Batch:
    """A source's `__getitems__` returns whole batches: nothing is left to collate."""
    return batch
