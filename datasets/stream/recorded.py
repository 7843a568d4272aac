"""A stream that was recorded, as a data set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.dataset import Generated
from datasets.reader import ShardedSource, ShardedTrajectories
from datasets.recipe import Problem, Recipe
from datasets.schema import DataSet, Source
from datasets.stream.recording import Recording
from datasets.stream.replay import Replay
from datasets.stream.study import Study
from datasets.windows import Windows


class Recorded:
    """The recording in `path` (a `DataSet`): its solutions are the training split; validation and
    test samples are made from its recipe, as in the run that recorded it.

    With `online` it streams again, the same frames in the same order, whatever engine is chosen, so
    the command that recorded it gives the same weights bit by bit; with another buffer, model or
    optimizer it says what these would have done on the same stream. With `online=none` it is data
    like others. `counts` of valid and test are those of the run unless given (`train`, if given,
    must be the number of simulations); `window` may differ from the recorded one.
    """

    def __init__(
        self,
        path: str,
        *,
        root: str,
        counts: Mapping[str, int] | None = None,
        window: Mapping[str, Any] | None = None,
        num_workers: int = 2,
    ):
        self.recording = Recording(path)
        study = self.recording.study
        asked = dict(counts or self.recording.held_out)
        if asked.pop("train", study.count) != study.count:
            raise ValueError(
                f"data.counts.train={counts['train']}: {path} is the recording of {study.count} "
                "simulations; leave it out."
            )
        self._window = dict(window) if window is not None else self.recording.window
        self._generated = Generated(
            study.recipe,
            root=root,
            counts={**asked, "train": study.count},
            resolution=study.shape,
            window=self._window,
            seed=study.seed,
            num_workers=num_workers,
        )

    def source(self, split: str, resolution=None) -> Source:
        if split != "train":
            return self.held_out().source(split, resolution)
        if self._window is None:
            return ShardedSource(self.recording.path, split)
        return Windows(ShardedTrajectories(self.recording.path, split), **self._window)

    def problem(self) -> Problem:
        return self._generated.problem()

    def held_out(self) -> DataSet:
        return self._generated.held_out()

    def recipe(self) -> Recipe:
        return self._generated.recipe()

    def facts_of_problem(self) -> dict[str, Any]:
        return self._generated.facts_of_problem()

    def facts(self) -> dict[str, Any]:
        facts = {**self._generated.facts_of_problem(), "split": "recorded"}
        facts["splits"] = {**facts["splits"], "train": len(self.recording.samples)}
        held_out = self.held_out().facts()["path"]
        return facts | {"path": f"{Path(self.recording.path)}; valid and test in {held_out}"}

    def engine(self, study: Study, *, clients: int, ordered: bool) -> Replay:
        """What gives it again; ValueError if it is to be given in another way than it came."""
        recorded = self.recording.study
        lanes = min(clients, recorded.count)
        if not self.recording.complete:
            raise ValueError(
                f"{self.recording.path}: the run that recorded it did not come to the end of its "
                "stream; let it go on from its last checkpoint first."
            )
        if (lanes, study.stagger) != (recorded.lanes, recorded.stagger):
            raise ValueError(
                f"{self.recording.path}: was recorded with online.clients={recorded.lanes} and "
                f"stagger={str(recorded.stagger).lower()}; give these."
            )
        return Replay(self.recording)
