"""Records a stream while a model is trained on it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.manifest import Shard
from datasets.shards import Task, commit_shard
from datasets.stream.events import Frame
from datasets.stream.recording import Recording, begin, save_rest, write
from datasets.stream.solution import Solution, content
from datasets.stream.solutions import Solutions
from datasets.stream.study import Study
from datasets.stream.writer import Writer


class Tee:
    """Writes every solution that has come in whole into shards of a data set, and the order of all
    arrivals beside it (`Recording`), in a thread of its own.

    Whenever the state of the stream is saved, what is complete by then is on disk, so a run that
    goes on from a checkpoint goes on with its recording too: what was written after the checkpoint
    is known and not written again. When the disk refuses, recording ends where it is, committed
    shards stay as they are, `failure` says why, and the training goes on. It has ended for those
    that go on from a later checkpoint, too.
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
        self._manifest = begin(self.path, study, window, held_out)
        known = Recording(self.path)
        self._written: list[int] = list(known.samples)
        self._left_out: dict[int, str] = known.left_out
        self._solutions: Solutions | None = None
        self._arrivals: list[tuple[int, int]] = []
        self._open: dict[int, Solution] = {}  # by lane
        self._whole: list[Solution] = []  # and not yet in a shard
        self._writer = Writer(self.path)

    @property
    def failure(self) -> str | None:
        return self._writer.failure

    def solutions(self) -> Solutions:
        """Those that came in whole, to be read. From now on each stays in memory until its shard is
        committed, and for good if the disk refuses that.
        """
        if self._solutions is None:
            count = self._study.count
            self._solutions = Solutions(self.path, self._metadata, count, self._written)
        return self._solutions

    def add(self, frame: Frame, live: bool) -> None:
        """A frame, copied."""
        if self.failure is not None:
            return
        if live:
            self._arrivals.append((frame.simulation, frame.number))
        solution = self._open.get(frame.lane)
        if solution is None or solution.simulation != frame.simulation:
            if solution is not None:  # left out
                self._writer.submit(self._save_rest, solution)
            solution = self._open[frame.lane] = Solution(frame)
        solution.frames[frame.number] = frame.state.copy()
        if frame.number == self._study.frames - 1:
            del self._open[frame.lane]
            self._finish(solution)

    def leave_out(self, left_out: Mapping[int, Any]) -> None:
        """Simulations that will not be finished: their frames are kept apart."""
        for lane, solution in list(self._open.items()):
            if solution.simulation in left_out:
                del self._open[lane]
                self._writer.submit(self._save_rest, solution)

    def flush(self, left_out: Mapping[int, Any], complete: bool = False) -> None:
        """All that is complete lies on disk when this returns, or `failure` says why not."""
        self.leave_out(left_out)
        self._commit()
        self._left_out = {i: entry["reason"] for i, entry in left_out.items()}
        arrivals = np.array(self._arrivals, dtype=np.int32).reshape(-1, 2)
        self._writer.submit(self._write, [], arrivals, self._left_out, complete)
        self._writer.settle()

    def close(self, left_out: Mapping[int, Any], complete: bool) -> None:
        """The recording ends; what is in work is kept apart."""
        if complete:
            for solution in self._open.values():
                self._writer.submit(self._save_rest, solution)
        self.flush(left_out, complete)
        self._writer.close()

    def state_dict(self) -> dict[str, Any]:
        """Only after `flush`."""
        arrivals = torch.tensor(self._arrivals, dtype=torch.int32).reshape(-1, 2)
        return {"arrivals": arrivals, "failure": self.failure}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._arrivals = [tuple(row) for row in state["arrivals"].tolist()]
        self._writer.failure = state["failure"]

    def _finish(self, solution: Solution) -> None:
        if solution.simulation in self._written:
            if self._solutions is not None:
                self._solutions.require_same(solution)
            return
        self._whole.append(solution)
        if self._solutions is not None:
            self._solutions.keep(solution)
        if len(self._whole) >= self._manifest.header.samples_per_shard:
            self._commit()

    def _commit(self) -> None:
        """What is complete becomes a shard."""
        if self._whole:
            solutions, self._whole = self._whole, []
            start = len(self._written)
            self._written += [solution.simulation for solution in solutions]
            self._writer.submit(
                self._write_shard, solutions, start, self._left_out, then=self._committed
            )

    def _committed(self, shard: Shard) -> None:
        if self._solutions is not None:
            self._solutions.commit(shard, self._written[slice(*shard.samples)])

    def _write_shard(
        self, solutions: list[Solution], start: int, left_out: Mapping[int, str]
    ) -> Shard:
        task = Task("train", len(self._manifest.shards), start, start + len(solutions))
        shard = commit_shard(
            self.path,
            task,
            content(self._metadata, solutions),
            seed=self._study.seed,
            solver=self._recipe.solver,
            residual=0.0,
        )
        self._write([shard], None, left_out, False)
        return shard

    def _write(
        self,
        new: list[Shard],
        arrivals: np.ndarray | None,
        left_out: Mapping[int, str],
        complete: bool,
    ) -> None:
        shards = [*self._manifest.shards, *new]
        write(
            self._manifest,
            shards,
            self._study,
            window=self._window,
            held_out=self._held_out,
            simulations=self._written[: shards[-1].samples[1] if shards else 0],
            arrivals=arrivals,
            left_out=left_out,
            complete=complete,
        )

    def _save_rest(self, solution: Solution) -> None:
        save_rest(self.path, solution.simulation, solution.states(), solution.numbers)
