"""A stream that goes on with its run."""

from typing import Any

from lightning import Callback, LightningDataModule, LightningModule, Trainer

from datasets.stream import Online
from datasets.stream.stream import Stream


class StreamState(Callback):
    """Sets a stream back to where it was when the checkpoint was written.

    Lightning keeps the states of loaders in every checkpoint and loads those from the middle of an
    epoch alone: after its end others begin again. A stream must not, its next simulations are due.
    """

    def __init__(self, stream: Stream):
        self._stream, self._states = stream, []

    def on_load_checkpoint(
        self, trainer: Trainer, task: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._states = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        if self._states and self._stream.batches == 0:
            self._stream.load_state_dict(self._states[0])
        self._states = []


def stream_state(data: LightningDataModule) -> list[StreamState]:
    """One for data that are streamed."""
    dataset = getattr(data, "dataset", None)
    return [StreamState(dataset.stream)] if isinstance(dataset, Online) else []
