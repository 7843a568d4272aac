"""A data set whose training samples are computed while a model is trained on them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

from torch import distributed as dist

from datasets.recipe import Problem, Recipe
from datasets.schema import DataSet, Source
from datasets.simulation import Simulated
from datasets.stream.assembler import Assembler
from datasets.stream.beginning import Beginning
from datasets.stream.buffer import Buffer
from datasets.stream.engine import Engine
from datasets.stream.faults import Faults, Strikes
from datasets.stream.history_stored import HistoryStored
from datasets.stream.intake import Intake
from datasets.stream.limiter import Limiter
from datasets.stream.loader import StreamLoader
from datasets.stream.pairs import Pairs
from datasets.stream.past import Past
from datasets.stream.policy import Policy
from datasets.stream.recorded import Recorded
from datasets.stream.requirements import (
    require_choices,
    require_memory,
    require_room,
    require_store,
)
from datasets.stream.sampler import Sampler
from datasets.stream.stream import Stream
from datasets.stream.study import Study
from datasets.stream.tee import Tee
from datasets.stream.whole import WholeTrajectories


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
    sample on average, the first one when `watermark` samples are in. With `Pairs` the watermark
    counts whole trajectories, and `reuse` the draws per window of these. Validation and test
    samples are those of `dataset`, which no simulation of the stream shares random numbers with;
    they are solved once and kept.

    `sampler` chooses parameters. With `ordered=false` frames are taken as they come, which is
    faster where simulations take very different times, and not repeatable. `retries` and
    `tolerate` say what becomes of simulations that fail (`Intake`), a number above `largest` is one
    way to fail, and `faults` makes them fail.
    `tee` names a folder in which the stream is recorded (`Tee`), for `Recorded` to give it again.

    Processes of `torch.distributed` divide the simulations: process r of R streams numbers r,
    r + R, ... with an engine and a buffer of its own, and the same number for each, so that all
    make the same number of steps whatever fails; the remainder of the division is left out.
    `batch_size` is that of one process. Such a stream is not recorded, and none is replayed.
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
        require_store(buffer, tee, recording)
        self._whole, self._held_out = dataset, dataset.held_out()
        recipe, shape, data_seed, count, window = dataset.problem()
        rank, ranks = _process()
        if count < ranks:
            each = f" for each of {ranks} processes" if ranks > 1 else ""
            raise ValueError(
                f"data.counts.train={count}: a stream has at least one simulation{each}."
            )
        if ranks > 1 and (tee is not None or isinstance(dataset, Recorded)):
            raise ValueError(
                f"{ranks} processes divide the stream, which can be recorded and replayed by one "
                "only: leave online.tee out, and take data that are solved."
            )
        count //= ranks
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
            rank=rank,
            ranks=ranks,
        )
        if recording is not None:
            engine = dataset.engine(study, clients=clients, ordered=ordered)
            study = recording.study
        maker, metadata = study.make()
        if not isinstance(maker, Simulated):
            raise ValueError(f"online: {type(maker).__name__} cannot be followed frame by frame.")
        study = replace(study, frames=metadata.num_frames or 1)
        # Rows of `Pairs` are trajectories, those of other policies samples.
        gather = WholeTrajectories if isinstance(buffer, Pairs) else Assembler
        assembler = gather(metadata, window)
        samples, draws = count * assembler.per_simulation, reuse * assembler.per_item
        require_memory(buffer.capacity, assembler)
        buffer.start(batch_size=batch_size, reuse=draws, samples=samples, seed=seed)
        limiter = Limiter(
            samples=samples,
            watermark=buffer.watermark() if watermark is None else watermark,
            reuse=draws,
            batch_size=batch_size,
            epochs=epochs,
            unit=assembler.unit,
        )
        require_room(assembler, buffer.capacity, limiter, study.lanes)
        sampler.start(getattr(maker, "parameters", {}), seed=data_seed)
        if sampler.learns:
            require_choices(count, limiter.watermark // assembler.per_simulation, study.lanes)
        self._reuse = reuse
        intake = Intake(study, engine, sampler, ordered=ordered, retries=retries, tolerate=tolerate)
        strikes = Strikes(faults.kills, count * study.frames, seed) if faults.kills else None
        splits = dataset.facts_of_problem()["splits"]
        held_out = {split: splits[split] for split in ("valid", "test")}
        recorder = Tee(tee, study, window, held_out) if tee is not None else None
        past = None
        if isinstance(buffer, HistoryStored):
            past = Past((recorder or recording).solutions(), window)
            buffer.read_from(past)
        filled = Buffer(assembler.storage(buffer), buffer, past)
        self.stream = Stream(intake, assembler, filled, limiter, strikes, recorder)
        self._loader = StreamLoader(self.stream, epochs)

    def source(self, split: str, resolution: int | Sequence[int] | None = None) -> Source:
        """Of the training split what is in the buffer when the watermark is reached."""
        if split == "train":
            return Beginning(self.stream)
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
            "unit": self.stream.assembler.unit,
            "windows": self.stream.assembler.per_item,
            "clients": intake.study.lanes,
            "watermark": limiter.watermark,
            "reuse": self._reuse,
            "steps": limiter.steps,
            "ordered": intake.ordered,
        }

    def close(self) -> None:
        """End the simulations."""
        self.stream.close()


def _process() -> tuple[int, int]:
    """The number of this process among those that train together, and how many they are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
