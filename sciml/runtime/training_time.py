"""How long a training has taken, over all runs that it was continued in."""

import time
from typing import Any

from lightning import Callback, LightningModule, Trainer


class TrainingTime(Callback):
    """`seconds` since training began; `earlier` of them were spent before the checkpoint that this
    run continues from.
    """

    def __init__(self):
        self.earlier = 0.0
        self._start: float | None = None

    @property
    def seconds(self) -> float:
        here = 0.0 if self._start is None else time.monotonic() - self._start
        return self.earlier + here

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._start = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.earlier = state_dict["seconds"]
