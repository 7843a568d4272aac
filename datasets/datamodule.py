"""Lightning's view of a data set: loaders for training and validation, and the statistics of
training.
"""

from collections.abc import Iterable

from lightning import LightningDataModule

from datasets.loader import ResumableLoader
from datasets.normalize import Normalizer, fit
from datasets.schema import Batch, DataSet, Metadata, Streamed


class DataModule(LightningDataModule):
    """Training and validation batches of a `DataSet` on the grid it was made for.

    The order of the training samples depends on (seed, epoch) alone and continues in mid-epoch
    from a checkpoint; a `Streamed` data set has an order, and batches, of its own. `normalizers`
    are fitted on the training split, and on nothing else.
    """

    def __init__(self, dataset: DataSet, *, batch_size: int, seed: int = 0, num_workers: int = 0):
        super().__init__()
        self.dataset = dataset
        self.batch_size, self.seed, self.num_workers = batch_size, seed, num_workers

    @property
    def metadata(self) -> Metadata:
        return self.dataset.source("train").metadata

    def normalizers(self) -> tuple[Normalizer, Normalizer]:
        """Of input and target, from one pass over the training split; NaN is refused."""
        return fit(self.dataset.source("train"))

    def train_dataloader(self) -> Iterable[Batch]:
        if isinstance(self.dataset, Streamed):
            return self.dataset.loader()
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> ResumableLoader:
        return self._loader("valid", shuffle=False)

    def _loader(self, split: str, *, shuffle: bool) -> ResumableLoader:
        return ResumableLoader(
            self.dataset.source(split),
            self.batch_size,
            seed=self.seed,
            shuffle=shuffle,
            num_workers=self.num_workers,
        )
