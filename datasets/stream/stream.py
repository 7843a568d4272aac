"""From simulations to batches."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from datasets.schema import Batch
from datasets.stream.assembler import Assembler
from datasets.stream.buffer import Buffer
from datasets.stream.faults import Strikes
from datasets.stream.intake import Intake, StudyFailed
from datasets.stream.limiter import Limiter
from datasets.stream.tee import Tee
from datasets.stream.whole import WholeTrajectories


class Stream:
    """Batches drawn from a buffer that simulations fill.

    Samples are put into the buffer between batches, by the thread that asks for the batch, and
    exactly as many as the limiter says; what solvers compute ahead waits in the engine. So what a
    batch holds follows from the order of the arrivals and the seed of the buffer alone, and the
    state between two batches is all there is: `state_dict` of a run that was killed leads to the
    same next batches as if it had gone on.
    """

    def __init__(
        self,
        intake: Intake,
        assembler: Assembler | WholeTrajectories,
        buffer: Buffer,
        limiter: Limiter,
        strikes: Strikes | None = None,
        tee: Tee | None = None,
    ):
        self.tee = tee
        self._strikes = strikes
        self.intake, self.assembler = intake, assembler
        self.buffer, self.limiter = buffer, limiter
        # As many as hold a batch.
        self._at_once = max(1, limiter.batch_size // assembler.per_item)
        self.batches = self.inserted = 0
        self.waited = 0.0  # seconds that the training waited for solvers, from the first batch on
        self.simulations = np.empty(0, np.int64)  # of the samples of the last batch
        self._over = self._started = False

    def fill(self) -> None:
        """Wait until the watermark is reached."""
        self._insert(self.limiter.watermark)

    def batch(self) -> Batch:
        """The next batch. Good until the one after the next is drawn."""
        before = self.intake.engine.waited
        self._insert(self.limiter.arrived(self.batches))
        self.waited += self.intake.engine.waited - before
        over = self._over or self.inserted >= self.limiter.samples
        size = self.limiter.batch_size
        left = (self.limiter.steps - self.batches) * size if over else None
        parts, self.simulations = self.buffer.get(size, left)
        self.batches += 1
        return self.assembler.batch(parts)

    @property
    def over(self) -> bool:
        """Whether the last simulation has ended."""
        return self._over

    def observe(self, errors: torch.Tensor) -> None:
        """The training errors [b] of the last batch."""
        self.intake.sampler.observe(self.simulations, errors.double().cpu().numpy())

    def _insert(self, count: int) -> None:
        """Until `count` samples are in, or no more can be: those that find no room stay behind."""
        if not self._started:
            self.intake.start()
            self._started = True
        while self.inserted < count and self.buffer.room() > 0:
            wanted = min(count - self.inserted, self._at_once)
            while len(self.assembler) < wanted and self._receive():
                pass
            ready = min(len(self.assembler), wanted, self.buffer.room())
            if ready == 0:
                break
            self.buffer.put(*self.assembler.take(ready))
            self.inserted += ready
        if self._over and not self.inserted:
            raise StudyFailed(
                f"none of the {self.limiter.samples} {self.limiter.unit} came: "
                f"{len(self.intake.quarantined)} simulations were left out before. Mend the solver "
                "or its parameters; online.tolerate=0 says why the first one fails."
            )
        while self.inserted >= self.limiter.samples and self._receive():
            pass  # hear of the ends of the last simulations

    def _receive(self) -> bool:
        """One more frame, if there is one."""
        arrival = None if self._over else self.intake.next()
        if arrival is None:
            self._over = True
            return False
        self.assembler.add(arrival.frame, arrival.live)
        if self.tee is not None:
            self.tee.add(arrival.frame, arrival.live)
        if self.buffer.past is not None and arrival.live:
            self.buffer.past.count(arrival.frame)
        arrival.frame.release()
        if self._strikes is not None:
            self._strikes.at(self.intake.counted, self.intake.engine)
        return True

    def status(self) -> dict[str, float]:
        """How far it is: simulations `done` of `simulations`, samples `arrived` of `samples`, the
        `fill` of the buffer and the share in it that is `unseen`, draws so far per window that
        arrived (`reuse`), seconds that the training `waited` for solvers, and that solvers were
        `busy` and `idle`, `restarts` of simulations and how many were `left_out`. Samples are
        counted in the `unit` of the assembler.
        """
        intake, effort = self.intake, self.intake.engine.effort()
        drawn = self.batches * self.limiter.batch_size
        return {
            "done": intake.done,
            "simulations": intake.study.count,
            "arrived": self.inserted,
            "samples": self.limiter.samples,
            "batches": self.batches,
            "fill": self.buffer.filled / self.buffer.policy.capacity,
            "unseen": self.buffer.unseen,
            "reuse": drawn / max(self.inserted * self.assembler.per_item, 1),
            "waited": self.waited,
            "busy": effort.busy,
            "idle": effort.idle,
            "restarts": intake.restarts,
            "left_out": len(intake.quarantined),
        }

    def state_dict(self) -> dict[str, Any]:
        if self.tee is not None:
            self.tee.flush(self.intake.quarantined)
        return {
            "tee": self.tee.state_dict() if self.tee is not None else {},
            "batches": self.batches,
            "inserted": self.inserted,
            "waited": self.waited,
            "over": self._over,
            "buffer": self.buffer.state_dict(),
            "assembler": self.assembler.state_dict(),
            "intake": self.intake.state_dict(),
            "sampler": self.intake.sampler.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Only before the stream has begun."""
        if self._started:
            raise RuntimeError("a stream that runs cannot be set back.")
        self.batches, self.inserted = state["batches"], state["inserted"]
        self.waited, self._over = state["waited"], state["over"]
        self.buffer.load_state_dict(state["buffer"])
        self.assembler.load_state_dict(state["assembler"])
        self.intake.sampler.load_state_dict(state["sampler"])
        self.intake.load_state_dict(state["intake"])
        self.intake.forget()
        if self.tee is not None:
            self.tee.load_state_dict(state["tee"])

    def close(self) -> None:
        self.intake.engine.close()
        if self.tee is not None and self._started:
            self.tee.close(self.intake.quarantined, self._over)
