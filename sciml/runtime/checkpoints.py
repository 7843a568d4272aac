"""best.ckpt and last.ckpt of a run."""

import math
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn

from datasets.store import commit


class Checkpoints(Callback):
    """Keeps `best.ckpt`, the lowest `monitor` on validation data so far, and `last.ckpt`.

    `last.ckpt` is written after every epoch, and every `every` steps if that is given. A run that
    goes on from a checkpoint in another folder knows the best score so far and takes the best
    weights along, as long as they lie beside it. List it last, so that the other callbacks' state
    is up to date.
    """

    def __init__(self, folder: Path, monitor: str, every: int | None = None):
        self.best, self.last = Path(folder) / "best.ckpt", Path(folder) / "last.ckpt"
        self.monitor, self.every = monitor, every
        self.score, self.epoch = math.inf, -1

    def state_dict(self) -> dict[str, Any]:
        return {"score": self.score, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self.best.is_file():  # taken along; without it the best score is out of reach
            self.score, self.epoch = state_dict["score"], state_dict["epoch"]

    def take_along(self, continued: Path) -> None:
        """Copy the best checkpoint that lies beside the one a run continues from."""
        beside = continued.with_name(self.best.name)
        if beside.is_file() and not self.best.exists():
            self.best.parent.mkdir(parents=True, exist_ok=True)
            commit(self.best, beside.read_bytes())

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        due = self.every is not None and trainer.global_step % self.every == 0
        if due and stepped(trainer, batch_idx):
            trainer.save_checkpoint(self.last, weights_only=False)

    def on_validation_end(self, trainer: Trainer, task: LightningModule) -> None:
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        score = float(trainer.callback_metrics.get(self.monitor, math.inf))
        if score < self.score:
            self.score, self.epoch = score, trainer.current_epoch
            trainer.save_checkpoint(self.best, weights_only=False)

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        trainer.save_checkpoint(self.last, weights_only=False)


def stepped(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the optimizer stepped after this batch: between steps of `accumulate_grad_batches`
    batches there are gradients that no checkpoint holds.
    """
    return (batch_idx + 1) % trainer.accumulate_grad_batches == 0 or trainer.is_last_batch
