"""Records a stream while a model is trained on it."""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.layout import arrange
from datasets.manifest import Shard
from datasets.shards import Task, commit_shard
from datasets.stream.events import Frame
from datasets.stream.recording import Recording, begin, save_rest, write
from datasets.stream.study import Study


class Tee:
    """Writes every solution that has come in whole into shards of a data set, and the order of all
    arrivals beside it (`Recording`), in a thread of its own.

    Whenever the state of the stream is saved, what is complete by then is on disk, so a run that
    goes on from a checkpoint goes on with its recording too: what was written after the checkpoint
    is known and not written again. When the disk refuses, recording ends where it is, committed
    shards stay as they are, `failure` says why, and the training goes on.
    """

    def __init__(
        self,
        path: str,
        study: Study,
        window: Mapping[str, Any] | None,
        held_out: Mapping[str, int],
    ):
        self.path, self._study, self._window = Path(path), study, window
        self._held_out = held_out
        self._recipe, self._metadata = study.make()
        self.failure: str | None = None
        self._manifest = begin(self.path, study)
        known = Recording(self.path) if (self.path / "study.json").is_file() else None
        self._written: list[int] = list(known.samples) if known is not None else []
        self._arrivals: list[tuple[int, int]] = []
        self._open: dict[int, _Solution] = {}  # by lane
        self._whole: list[_Solution] = []  # and not yet in a shard
        self._writer = ThreadPoolExecutor(1, "tee")
        self._pending: list[Future] = []

    def add(self, frame: Frame, live: bool) -> None:
        """A frame, copied."""
        if self.failure is not None:
            return
        if live:
            self._arrivals.append((frame.simulation, frame.number))
        solution = self._open.get(frame.lane)
        if solution is None or solution.simulation != frame.simulation:
            if solution is not None:  # left out
                self._submit(self._save_rest, solution)
            solution = self._open[frame.lane] = _Solution(frame)
        solution.frames[frame.number] = frame.state.copy()
        if frame.number == self._study.frames - 1:
            del self._open[frame.lane]
            self._finish(solution)

    def leave_out(self, left_out: Mapping[int, Any]) -> None:
        """Simulations that will not be finished: their frames are kept apart."""
        for lane, solution in list(self._open.items()):
            if solution.simulation in left_out:
                del self._open[lane]
                self._submit(self._save_rest, solution)

    def flush(self, left_out: Mapping[int, Any], complete: bool = False) -> None:
        """All that is complete lies on disk when this returns, or `failure` says why not."""
        self.leave_out(left_out)
        self._commit()
        reasons = {i: entry["reason"] for i, entry in left_out.items()}
        arrivals = np.array(self._arrivals, dtype=np.int32).reshape(-1, 2)
        self._submit(self._write, arrivals, reasons, complete)
        self._settle()

    def close(self, left_out: Mapping[int, Any], complete: bool) -> None:
        """The recording ends; what is in work is kept apart."""
        if complete:
            for solution in self._open.values():
                self._submit(self._save_rest, solution)
        self.flush(left_out, complete)
        self._writer.shutdown()

    def state_dict(self) -> dict[str, Any]:
        """Only after `flush`."""
        return {"arrivals": torch.tensor(self._arrivals, dtype=torch.int32).reshape(-1, 2)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._arrivals = [tuple(row) for row in state["arrivals"].tolist()]

    def _finish(self, solution: "_Solution") -> None:
        if solution.simulation in self._written:
            return
        self._whole.append(solution)
        if len(self._whole) >= self._manifest.header.samples_per_shard:
            self._commit()

    def _commit(self) -> None:
        """What is complete becomes a shard."""
        if self._whole:
            solutions, self._whole = self._whole, []
            start = len(self._written)
            self._written += [solution.simulation for solution in solutions]
            self._submit(self._write_shard, solutions, start)

    def _submit(self, work, *arguments) -> None:
        if self.failure is None:
            self._pending.append(self._writer.submit(work, *arguments))
            while len(self._pending) > 2:  # do not outrun the disk
                self._settle(1)

    def _settle(self, count: int | None = None) -> None:
        """Wait for the oldest works, all if not said otherwise."""
        for _ in range(len(self._pending) if count is None else count):
            try:
                self._pending.pop(0).result()
            except OSError as error:
                self.failure = self.failure or f"{self.path}: {error.strerror or error}"

    def _write_shard(self, solutions: list["_Solution"], start: int) -> None:
        task = Task("train", len(self._manifest.shards), start, start + len(solutions))
        shard: Shard = commit_shard(
            self.path,
            task,
            self._content(solutions),
            seed=self._study.seed,
            solver=self._recipe.solver,
            residual=0.0,
        )
        self._manifest.put(len(self._manifest.shards), shard)

    def _content(self, solutions: list["_Solution"]):
        meta = self._metadata
        states = np.stack([s.states() for s in solutions])  # [b, t, c, *space]
        constants = np.stack([s.constants for s in solutions])
        if meta.num_frames is None:
            states = states[:, 0]
        fields = _split(constants, meta.input_fields) | _split(states, meta.target_fields, meta)
        columns = np.stack([s.parameters for s in solutions]).T
        parameters = dict(zip(meta.parameters, columns, strict=True))
        tensors = {name: torch.from_numpy(field) for name, field in fields.items()}
        return meta, arrange(meta, tensors), parameters

    def _write(self, arrivals: np.ndarray, left_out: Mapping[int, str], complete: bool) -> None:
        write(
            self._manifest,
            self._study,
            self._window,
            self._held_out,
            self._written[: self._manifest.shards[-1].samples[1] if self._manifest.shards else 0],
            arrivals,
            left_out,
            complete,
        )

    def _save_rest(self, solution: "_Solution") -> None:
        save_rest(self.path, solution.simulation, solution.states(), solution.parameters)


class _Solution:
    """The frames of a simulation so far."""

    def __init__(self, frame: Frame):
        self.simulation = frame.simulation
        self.constants, self.parameters = frame.constants.copy(), frame.parameters.copy()
        self.frames: dict[int, np.ndarray] = {}

    def states(self) -> np.ndarray:
        """[t, c, *space]."""
        return np.stack([self.frames[k] for k in range(len(self.frames))])


def _split(u: np.ndarray, fields, timed=None) -> dict[str, np.ndarray]:
    """Components of u [b, (t,) c, *space] by field; those of one component have no axis for it."""
    axis = 2 if timed is not None and timed.num_frames is not None else 1
    parts, start = {}, 0
    for field in fields:
        part = np.take(u, range(start, start + field.components), axis=axis)
        parts[field.name] = part if field.components > 1 else part.squeeze(axis)
        start += field.components
    return parts
