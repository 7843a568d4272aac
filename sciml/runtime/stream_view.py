"""What a stream is doing: for the terminal while it runs, for the report afterwards."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningDataModule, LightningModule, Trainer

from datasets.store import commit
from datasets.stream import Online
from datasets.stream.stream import Stream
from sciml.evaluation.run_folder import STREAM

POINTS = 200  # of a curve


class StreamView(Callback):
    """Notes the status of a stream at some 200 steps of a training, and writes `stream.json`: the
    curves, the last status, how often samples were used, and the simulations that were left out.

    Times are those of all parts of a run that was continued.
    """

    def __init__(self, stream: Stream, facts: dict[str, Any], folder: Path):
        self._stream, self._facts, self._folder = stream, facts, folder
        self._curves: dict[str, list[float]] = {}
        self._begin = self._paused = 0.0
        self._earlier = {"seconds": 0.0, "busy": 0.0, "idle": 0.0}
        self._every = max(1, stream.limiter.steps // POINTS)

    def shown(self) -> dict[str, str]:
        """For a line of progress."""
        now = self._status()
        unit, rate = self._facts["unit"], now["arrived"] / max(now["seconds"], 1e-9)
        waits = f"{100 * now['waited'] / max(now['seconds'], 1e-9):.0f} %"
        solvers = f"{100 * now['idle'] / max(now['busy'] + now['idle'], 1e-9):.0f} %"
        left_out = {"left out": f"{now['left_out']:.0f}"} if now["left_out"] else {}
        return {
            "simulations": f"{now['done']:.0f}/{now['simulations']:.0f}",
            "buffer": f"{100 * now['fill']:.0f} %",
            f"{unit}/s": f"{rate:.{1 if rate < 10 else 0}f}",
            "reuse": f"{now['reuse']:.3g}",
            "waits": f"{waits} (solvers {solvers})",
            **left_out,
        }

    def on_train_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._begin = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._stream.batches % self._every == 0:
            self._note()

    def on_validation_start(self, trainer: Trainer, task: LightningModule) -> None:
        self._validating = time.monotonic()

    def on_validation_end(self, trainer: Trainer, task: LightningModule) -> None:
        self._paused += time.monotonic() - self._validating

    def on_train_end(self, trainer: Trainer, task: LightningModule) -> None:
        self._note()
        self._write()

    def on_exception(
        self, trainer: Trainer, task: LightningModule, exception: BaseException
    ) -> None:
        self._write()

    def _status(self) -> dict[str, float]:
        """That of the stream, and the seconds of training without those of validation."""
        now = dict(self._stream.status())
        now["seconds"] = self._earlier["seconds"]
        if self._begin:
            now["seconds"] += time.monotonic() - self._begin - self._paused
        for key in ("busy", "idle"):
            now[key] += self._earlier[key]
        return now

    def _note(self) -> None:
        for key, value in self._status().items():
            self._curves.setdefault(key, []).append(float(value))

    def _write(self) -> None:
        intake = self._stream.intake
        left_out = [{"simulation": i, **entry} for i, entry in intake.quarantined.items()]
        record = {
            **self._facts,
            "status": self._status(),
            "curves": self._curves,
            "uses": self._stream.buffer.uses.tolist(),
            "left_out": left_out,
            "recording": self._recording(),
        }
        commit(self._folder / STREAM, json.dumps(record, allow_nan=False).encode())

    def _recording(self) -> dict[str, Any] | None:
        tee = self._stream.tee
        if tee is None:
            return None
        return {"path": str(tee.path), "failure": tee.failure, "complete": self._stream.over}

    def state_dict(self) -> dict[str, Any]:
        now = self._status()
        earlier = {key: now[key] for key in self._earlier}
        curves = {key: torch.tensor(values) for key, values in self._curves.items()}
        return {"curves": curves, "earlier": earlier}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._curves = {key: values.tolist() for key, values in state_dict["curves"].items()}
        self._earlier = dict(state_dict["earlier"])


def stream_view(data: LightningDataModule, folder: Path) -> StreamView | None:
    """For data that are streamed."""
    dataset = getattr(data, "dataset", None)
    if not isinstance(dataset, Online):
        return None
    return StreamView(dataset.stream, dataset.described(), folder)
