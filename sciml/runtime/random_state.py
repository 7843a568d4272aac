"""The global random state as part of a checkpoint."""

from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class RandomState(Callback):
    """Saves torch's random state and puts it back before the first batch of a continued run.

    Dropout and Monte-Carlo terms then draw what they would have drawn. It is restored as late as
    that because building loaders and validating before training draw numbers too. Data order does
    not depend on it: see `datasets.loader`.
    """

    def __init__(self):
        self._pending: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._pending = state_dict

    def on_train_batch_start(
        self, trainer: Trainer, task: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._pending is None:
            return
        torch.set_rng_state(self._pending["cpu"].cpu())
        if "cuda" in self._pending and torch.cuda.is_available():
            torch.cuda.set_rng_state_all([s.cpu() for s in self._pending["cuda"]])
        self._pending = None
