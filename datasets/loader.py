"""Batches in an order that depends on (seed, epoch) alone, and can be taken up in mid-epoch."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from datasets.schema import Batch, Source


class EpochBatches:
    """Index lists of one epoch after another: a permutation drawn from (seed, epoch), cut into
    batches.

    Iterating gives `epoch` from batch `start` on and moves neither. Lightning calls
    `sampler.set_epoch` of a loader's batch sampler before each epoch; that is this object. Without
    `shuffle` the order is 0, 1, 2 ... The last batch may be short.
    """

    def __init__(self, num_samples: int, batch_size: int, *, seed: int, shuffle: bool):
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1.")
        self.num_samples, self.batch_size = num_samples, batch_size
        self.seed, self.shuffle = seed, shuffle
        self.epoch = self.start = 0

    @property
    def sampler(self) -> "EpochBatches":
        return self

    def set_epoch(self, epoch: int) -> None:
        """Go to the start of an epoch, or stay where we are in it."""
        if epoch != self.epoch:
            self.epoch, self.start = epoch, 0

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
    seen. Lightning stores and restores this state in the middle of an epoch, and names the epoch
    at the start of each; without Lightning every new iterator begins the next epoch. The
    loader has a generator of its own and leaves the global random state alone.
    """

    def __init__(
        self, source: Source, batch_size: int, *, seed: int, shuffle: bool, num_workers: int = 0
    ):
        self._batches = EpochBatches(len(source), batch_size, seed=seed, shuffle=shuffle)
        self._received, self._served = 0, None
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
        batches = self._batches
        if self._served == batches.epoch or batches.start >= len(batches):
            batches.set_epoch(batches.epoch + 1)
        self._received = batches.start
        for batch in super().__iter__():
            self._served = batches.epoch
            self._received += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self._batches.epoch, "received": self._received}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._batches.epoch = int(state["epoch"])
        self._batches.start = self._received = int(state["received"])
        self._served = None


def _as_read(batch: Batch) -> Batch:
    """A source's `__getitems__` returns whole batches: nothing is left to collate."""
    return batch
