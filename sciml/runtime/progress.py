"""What a run prints while it trains."""

import sys
import time

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


def progress() -> Callback:
    """A progress bar on a terminal, one line per epoch anywhere else."""
    return RichProgressBar() if sys.stdout.isatty() else EpochLines()


class EpochLines(Callback):
    """`epoch  3/20  train 0.0512  validation 0.0436  41 s`, the loss and the relative L2 error."""

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._start = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        metrics = trainer.callback_metrics
        train, valid = (
            float(metrics.get(k, "nan")) for k in ("train/loss_epoch", "val/relative_l2")
        )
        width = len(str(trainer.max_epochs))
        print(
            f"epoch {trainer.current_epoch + 1:{width}}/{trainer.max_epochs}  train {train:.4f}  "
            f"validation {valid:.4f}  {time.monotonic() - self._start:.0f} s",
            flush=True,
        )
