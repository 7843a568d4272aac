"""Ctrl-C and SIGTERM: finish the batch, save, stop; so that the run can go on later."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning import Callback, LightningModule, Trainer

from sciml.runtime.checkpoints import stepped
from sciml.runtime.interruption import Interrupted


class SignalWatch(Callback):
    """On SIGINT, SIGTERM or SIGUSR1 writes `checkpoint` at the end of the running step and raises
    `Interrupted`.

    The handler itself only sets a flag: saving inside a handler can meet a half-made step. A
    second signal stops at once.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)

    def __init__(self, checkpoint: Path):
        self.checkpoint = checkpoint
        self.signal: signal.Signals | None = None
        self._previous: dict[int, object] = {}

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        for number in self.SIGNALS:  # Lightning has put its own handler before ours, and exits 0
            signal.signal(number, self._note)

    def __enter__(self) -> "SignalWatch":
        for number in self.SIGNALS:
            self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise Interrupted(signal.Signals(number), self.checkpoint)
        self.signal = signal.Signals(number)

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.signal is not None and stepped(trainer, batch_idx):
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            raise Interrupted(self.signal, self.checkpoint)

    def on_train_epoch_end(self, trainer: Trainer, task: LightningModule) -> None:
        """A signal during validation: `Checkpoints`, listed before, has just saved."""
        if self.signal is not None:
            raise Interrupted(self.signal, self.checkpoint)
