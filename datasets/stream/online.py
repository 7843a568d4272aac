"""A data set whose training samples are computed while a model is trained on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from datasets.recipe import Problem, Recipe
from datasets.schema import Batch, DataSet, Metadata, Source
from datasets.simulation import Simulated
from datasets.stream.assembler import Assembler
from datasets.stream.buffer import Buffer
from datasets.stream.engine import Engine
from datasets.stream.faults import Faults, Strikes
from datasets.stream.history_stored import HistoryStored
from datasets.stream.intake import Intake
from datasets.stream.limiter import Limiter
from datasets.stream.loader import StreamLoader
from datasets.stream.past import Past
from datasets.stream.policy import Policy
from datasets.stream.recorded import Recorded
from datasets.stream.recording import Recording
from datasets.stream.sampler import Sampler
from datasets.stream.storage import Storage
from datasets.stream.stream import Stream
from datasets.stream.study import Study
from datasets.stream.tee import Tee


@runtime_checkable
class Streamable(Protocol):
    """A data set that can be simulated instead of stored."""

    def problem(self) -> Problem: ...

    def held_out(self) -> DataSet:
        """Its validation and test samples alone."""
        ...

    def facts_of_problem(self) -> dict[str, Any]:
        """`facts` without making any sample."""
        ...


class Online:
    """The data set `dataset`, its training split streamed (a `DataSet`).

    Simulations are computed by `engine`, `clients` of them at a time, beginning one after another
    unless `stagger=false`, and their samples go through `buffer` into batches: `reuse` draws per
    sample on average, the first one when `watermark` samples are in. Validation and test samples
    are those of `dataset`, which no simulation of the stream shares random numbers with; they are
    solved once and kept.

    `sampler` chooses parameters. With `ordered=false` frames are taken as they come, which is
    faster where simulations take very different times, and not repeatable. `retries` and
    `tolerate` say what becomes of simulations that fail (`Intake`), a number above `largest` is one
    way to fail, and `faults` makes them fail.
    `tee` names a folder in which the stream is recorded (`Tee`), for `Recorded` to give it again.
    """

    def __init__(
        self,
        dataset: DataSet,
        *,
        engine: Engine,
        buffer: Policy,
        sampler: Sampler,
        clients: int,
        reuse: float,
        watermark: int | None = None,
        stagger: bool = True,
        ordered: bool = True,
        retries: int = 2,
        tolerate: float = 0.05,
        largest: float = 1e10,
        faults: Faults,
        tee: str | None = None,
        batch_size: int,
        epochs: int,
        seed: int,
    ):
        if not isinstance(dataset, Streamable):
            raise ValueError(
                f"online: {type(dataset).__name__} has no recipe that could be simulated; choose "
                "data that are generated, or online=none."
            )
        if clients < 1 or not 0 < reuse < float("inf"):
            raise ValueError(f"online.clients={clients} and reuse={reuse} must be positive.")
        if retries < 0 or not 0 <= tolerate <= 1:
            raise ValueError(
                f"online.retries={retries} must not be negative, tolerate={tolerate} a share."
            )
        recording = dataset.recording if isinstance(dataset, Recorded) else None
        _require_store(buffer, tee, recording)
        self._whole, self._held_out = dataset, dataset.held_out()
        recipe, shape, data_seed, count, window = dataset.problem()
        if count < 1:
            raise ValueError(f"data.counts.train={count}: a stream has at least one simulation.")
        study = Study(
            recipe=recipe,
            shape=shape,
            seed=data_seed,
            count=count,
            lanes=min(clients, count),
            frames=1,
            stagger=stagger,
            largest=largest,
            faults=faults.plain,
        )
        if recording is not None:
            engine = dataset.engine(study, clients=clients, ordered=ordered)
            study = recording.study
        maker, metadata = study.make()
        if not isinstance(maker, Simulated):
            raise ValueError(f"online: {type(maker).__name__} cannot be followed frame by frame.")
        study = replace(study, frames=metadata.num_frames or 1)
        assembler = Assembler(metadata, window)
        samples = count * assembler.per_simulation
        buffer.start(batch_size=batch_size, reuse=reuse, samples=samples, seed=seed)
        limiter = Limiter(
            samples=samples,
            watermark=buffer.watermark() if watermark is None else watermark,
            reuse=reuse,
            batch_size=batch_size,
            epochs=epochs,
        )
        _require_room(buffer.capacity, limiter.watermark, study.lanes)
        sampler.start(getattr(maker, "parameters", {}), seed=data_seed)
        intake = Intake(study, engine, sampler, ordered=ordered, retries=retries, tolerate=tolerate)
        storage = Storage(buffer.capacity, assembler.parts)
        strikes = Strikes(faults.kills, count * study.frames, seed) if faults.kills else None
        splits = dataset.facts_of_problem()["splits"]
        held_out = {split: splits[split] for split in ("valid", "test")}
        recorder = Tee(tee, study, window, held_out) if tee is not None else None
        past = None
        if isinstance(buffer, HistoryStored):
            past = Past((recorder or recording).solutions(), window)
            buffer.read_from(past)
        filled = Buffer(storage, buffer, past)
        self.stream = Stream(intake, assembler, filled, limiter, strikes, recorder)
        self._loader = StreamLoader(self.stream, epochs)

    def source(self, split: str, resolution: int | Sequence[int] | None = None) -> Source:
        """Of the training split what is in the buffer when the watermark is reached."""
        if split == "train":
            return _Beginning(self.stream)
        return self._held_out.source(split, resolution)

    def loader(self) -> StreamLoader:
        return self._loader

    def recipe(self) -> Recipe | None:
        return self._whole.recipe()

    def facts(self) -> dict[str, Any]:
        held_out = self._held_out.facts()
        return {
            **self._whole.facts_of_problem(),
            "path": f"{held_out['path']} (valid and test), the training split is not stored",
            "split": "streamed",
        }

    def described(self) -> dict[str, Any]:
        """What streams how, in plain values."""
        intake, limiter = self.stream.intake, self.stream.limiter
        return {
            "engine": type(intake.engine).__name__,
            "buffer": type(self.stream.buffer.policy).__name__,
            "sampler": type(intake.sampler).__name__,
            "capacity": self.stream.buffer.policy.capacity,
            "clients": intake.study.lanes,
            "watermark": limiter.watermark,
            "reuse": limiter.reuse,
            "steps": limiter.steps,
            "ordered": intake.ordered,
        }

    def close(self) -> None:
        """End the simulations."""
        self.stream.close()


class _Beginning:
    """The samples that are in the buffer before the first batch is drawn (a `Source`)."""

    def __init__(self, stream: Stream):
        self._stream = stream
        self.metadata: Metadata = stream.assembler.metadata

    def __len__(self) -> int:
        self._stream.fill()
        return self._stream.inserted

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        self._stream.fill()
        storage = self._stream.buffer.storage
        rows = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        return self._stream.assembler.batch({n: t[rows] for n, t in storage.parts.items()})


def _require_store(buffer: Policy, tee: str | None, recording: Recording | None) -> None:
    """Before anything starts: what is to be read must be written, and not over itself."""
    if isinstance(buffer, HistoryStored) and tee is None and recording is None:
        raise ValueError(
            "online/buffer=history_stored draws from solutions that are recorded: set "
            "online.tee=FOLDER, or take online/buffer=history, which keeps samples in memory."
        )
    if (
        recording is not None
        and tee is not None
        and recording.path.resolve() == Path(tee).resolve()
    ):
        raise ValueError(
            f"online.tee={tee}: is the recording that is given again; leave online.tee out, or "
            "give a new folder."
        )


def _require_room(capacity: int, watermark: int, lanes: int) -> None:
    """Before anything starts: what could only end in waiting for each other."""
    if watermark > capacity:
        raise ValueError(
            f"online.watermark={watermark}: the buffer holds {capacity} samples; lower the "
            "watermark, or raise online.buffer.capacity."
        )
    if capacity < 2 * lanes:
        raise ValueError(
            f"online.buffer.capacity={capacity} is too small for {lanes} clients, of each of which "
            "it should hold two samples at least; raise it, or lower online.clients."
        )
