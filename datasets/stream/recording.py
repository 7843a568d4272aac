"""A stream on disk: the solutions that came in whole, and in which order their frames did."""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from datasets.manifest import STREAMED, Header, Manifest, Shard
from datasets.shards import samples_per_shard
from datasets.store import commit
from datasets.stream.solutions import Solutions
from datasets.stream.study import Study

STUDY, ORDER, REST = "study.json", "arrivals.npy", "rest"


class Recording:
    """The folder `path` of a recorded stream: a data set with a training split (`Manifest`), and

    study.json        the study, its window, the numbers of valid and test samples, which
                      simulation each sample is, those that were left out
    arrivals.npy      int32 [n, 2], simulation and frame of every arrival in its order
    rest/i.npy        frames [t, c, *space] of a simulation i that was left out or cut short
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not (self.path / STUDY).is_file():
            raise ValueError(
                f"{self.path}: no recorded stream here ({STUDY} is missing). A run records one "
                "with online.tee=FOLDER."
            )
        record = json.loads((self.path / STUDY).read_text())
        self.study = Study.from_json(json.dumps(record["study"]))
        self.window: Mapping[str, Any] | None = record["window"]
        self.held_out: dict[str, int] = record["held_out"]
        self.samples: list[int] = record["simulations"]
        self.left_out = {int(i): reason for i, reason in record["left_out"].items()}
        self.complete: bool = record["complete"]

    @property
    def manifest(self) -> Manifest:
        return Manifest(self.path)

    def arrivals(self) -> np.ndarray:
        return np.load(self.path / ORDER, allow_pickle=False)

    def solutions(self) -> Solutions:
        """Those that were recorded whole, by simulation."""
        return Solutions(self.path, self.manifest.metadata, self.study.count, self.samples)


def header_of(study: Study, count: int) -> Header:
    """Of a data set that holds `count` recorded solutions."""
    _, metadata = study.make()
    return Header(
        name=metadata.name,
        recipe={STREAMED: dict(study.recipe)},
        seed=study.seed,
        shape=list(study.shape),
        counts={"train": count, "valid": 0, "test": 0},
        samples_per_shard=samples_per_shard(metadata),
        metadata=metadata.to_dict(),
    )


def begin(
    path: Path, study: Study, window: Mapping[str, Any] | None, held_out: Mapping[str, int]
) -> Manifest:
    """An empty recording, or one of the same study to be continued; ValueError for anything else
    that is there.
    """
    if (path / STUDY).is_file():
        found = Recording(path)
        if found.study != study:
            raise ValueError(
                f"{path}: holds the recording of another study; give online.tee another folder."
            )
        return _known(found)
    if path.exists() and any(path.iterdir()):
        raise ValueError(f"{path}: is not empty; give online.tee a new folder.")
    (path / "data" / "train").mkdir(parents=True, exist_ok=True)
    manifest = Manifest.create(path, header_of(study, 0))
    write(
        manifest,
        [],
        study,
        window=window,
        held_out=held_out,
        simulations=[],
        arrivals=np.empty((0, 2), np.int32),
        left_out={},
        complete=False,
    )
    return manifest


def _known(recording: Recording) -> Manifest:
    """Its manifest without a shard whose run died before it said which simulations are in it."""
    manifest, count = recording.manifest, len(recording.samples)
    shards = [shard for shard in manifest.shards if shard.samples[1] <= count]
    if shards != manifest.shards or manifest.header.counts["train"] != count:
        manifest.write(header_of(recording.study, count), shards)
    return manifest


def write(
    manifest: Manifest,
    shards: Sequence[Shard],
    study: Study,
    *,
    window: Mapping[str, Any] | None,
    held_out: Mapping[str, int],
    simulations: Sequence[int],
    arrivals: np.ndarray | None,
    left_out: Mapping[int, str],
    complete: bool,
) -> None:
    """Make the recording what it is now: first the data, then what refers to them. Arrivals that
    are None stay as they were.
    """
    manifest.write(header_of(study, len(simulations)), shards)
    if arrivals is not None:
        commit(manifest.folder / ORDER, _bytes(arrivals))
    record = {
        "study": asdict(study),
        "window": None if window is None else dict(window),
        "held_out": dict(held_out),
        "simulations": list(simulations),
        "left_out": dict(left_out),
        "complete": complete,
    }
    commit(manifest.folder / STUDY, json.dumps(record).encode())


def save_rest(folder: Path, simulation: int, frames: np.ndarray, numbers: np.ndarray) -> None:
    """Keep what there is of a simulation that did not end."""
    (folder / REST).mkdir(exist_ok=True)
    commit(folder / REST / f"{simulation}.npy", _bytes(frames))
    commit(folder / REST / f"{simulation}-parameters.npy", _bytes(numbers))


def _bytes(array: np.ndarray) -> bytes:

    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()
