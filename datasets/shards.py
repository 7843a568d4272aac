"""One shard from nothing: draw, solve, inspect, encode, commit."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf

from datasets.build import instantiate
from datasets.layout import arrange, encode, order
from datasets.manifest import Header, Shard
from datasets.normalize import Moments
from datasets.recipe import Recipe, Solution, sample_generator
from datasets.schema import SPLITS, Metadata
from datasets.store import commit, require_space

MAX_BYTES = 32 * 2**20
MAX_SAMPLES = 64
SIZES = ("resolution", "counts")  # what a recipe suggests; it is the caller who decides


class GenerationError(ValueError):
    """A sample could not be made; the message names it."""


@dataclass(frozen=True)
class Task:
    """The samples `start .. stop - 1` of a split, to become shard `number`."""

    split: str
    number: int
    start: int
    stop: int

    @property
    def file(self) -> str:
        return f"data/{self.split}/shard-{self.number:05d}.h5"


def plan(
    recipe: Mapping[str, Any] | DictConfig,
    counts: Mapping[str, int],
    *,
    resolution: int | Sequence[int],
    seed: int,
) -> tuple[Header, list[Task]]:
    """What the data set is, and its shards in the order of the manifest. Raises ValueError."""
    if OmegaConf.is_config(recipe):
        recipe = OmegaConf.to_container(recipe, resolve=True, throw_on_missing=True)
    recipe = {key: value for key, value in recipe.items() if key not in SIZES}
    if set(counts) != set(SPLITS) or any(not _is_count(n) for n in counts.values()):
        raise ValueError(f"samples per split: expected {SPLITS}, each a number >= 0, got {counts}.")
    if not any(counts.values()):
        raise ValueError(f"samples per split: {counts} asks for none.")
    if not _is_count(seed):
        raise ValueError(f"seed={seed!r} must be a whole number >= 0.")
    _require_numbers(recipe, "pde")
    maker = instantiate(recipe)
    if not isinstance(maker, Recipe):
        raise ValueError(f"{recipe['_target_']} is not a Recipe.")
    if not re.fullmatch(r"\w[\w.-]*", maker.name):
        raise ValueError(
            f"name={maker.name!r}: a data set is named by letters, digits, dots, - and _."
        )
    points = resolution if isinstance(resolution, Sequence) else [resolution] * maker.ndim
    shape = list(points)
    if len(shape) != maker.ndim or not all(_is_count(n) and n for n in shape):
        raise ValueError(
            f"resolution={resolution!r}: {maker.name} takes one number, or {maker.ndim} numbers, "
            "of points."
        )
    metadata = maker.metadata(shape)
    for field in metadata.input_fields + metadata.target_fields:
        if "/" in field.name or field.name in ("", "."):
            raise ValueError(f"field {field.name!r}: a name in HDF5 has no / and is no dot.")
    header = Header(
        name=maker.name,
        recipe=recipe,
        seed=seed,
        shape=shape,
        counts={split: counts[split] for split in SPLITS},
        samples_per_shard=samples_per_shard(metadata),
        metadata=metadata.to_dict(),
    )
    return header, list(shard_tasks(header))


def _require_numbers(node: Any, path: str) -> None:
    """Refuse NaN and infinity: no manifest can hold them."""
    if isinstance(node, float) and not math.isfinite(node):
        raise ValueError(f"{path}={node} must be a finite number.")
    if isinstance(node, Mapping | list):
        for key, value in node.items() if isinstance(node, Mapping) else enumerate(node):
            _require_numbers(value, f"{path}.{key}")


def _is_count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def samples_per_shard(metadata: Metadata) -> int:
    """As many samples as fit in 32 MiB, at most 64: few enough to solve in one batch or to lose."""
    components = metadata.in_channels + (metadata.num_frames or 1) * metadata.out_channels
    sample_bytes = 4 * components * math.prod(metadata.grid.shape)
    return min(max(MAX_BYTES // sample_bytes, 1), MAX_SAMPLES)


def shard_tasks(header: Header) -> Iterator[Task]:
    for split in SPLITS:
        step, count = header.samples_per_shard, header.counts[split]
        for number, start in enumerate(range(0, count, step)):
            yield Task(split, number, start, min(start + step, count))


@dataclass(frozen=True)
class ShardMaker:
    """Makes and commits single shards of one data set; travels to worker processes."""

    folder: Path
    header: Header

    def __call__(self, task: Task) -> Shard:
        """Raises GenerationError when a sample fails, OSError when the shard cannot be written."""
        header, shape = self.header, tuple(self.header.shape)
        recipe = _recipe(json.dumps(header.recipe, sort_keys=True))
        metadata = recipe.metadata(shape)
        solution = _solve(recipe, header.seed, shape, task)
        arrays = arrange(metadata, solution.fields)
        _inspect(solution, arrays, task)
        parameters = {name: p.numpy() for name, p in solution.parameters.items()}
        return commit_shard(
            self.folder,
            task,
            (metadata, arrays, parameters),
            seed=header.seed,
            solver=recipe.solver,
            residual=float(solution.residual.max()),
        )


def commit_shard(
    folder: Path,
    task: Task,
    content: tuple[Metadata, Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    *,
    seed: int,
    solver: Mapping[str, Any],
    residual: float,
) -> Shard:
    """Write metadata, arrays and parameters as the file of a task; its line in the manifest."""
    metadata, arrays, parameters = content
    data = encode(metadata, arrays, parameters)
    path = folder / task.file
    require_space(path.parent, len(data))
    commit(path, data)
    return Shard(
        split=task.split,
        file=task.file,
        samples=[task.start, task.stop],
        bytes=len(data),
        sha256=sha256(data).hexdigest(),
        shapes={name: list(array.shape) for name, array in arrays.items()},
        dtype="float32",
        seed=seed,
        solver=dict(solver),
        residual=residual,
        moments=field_moments(metadata, arrays),
    )


@lru_cache(maxsize=1)
def _recipe(config: str) -> Recipe:
    return instantiate(json.loads(config))


def _solve(recipe: Recipe, seed: int, shape: Sequence[int], task: Task) -> Solution:
    """All samples in one batch; if that fails, one by one to find out which sample is to blame."""
    indices = range(task.start, task.stop)

    def attempt(indices: Sequence[int]) -> Solution:
        return recipe.solve([sample_generator(seed, task.split, i) for i in indices], shape)

    try:
        return attempt(indices)
    except Exception as error:
        for index in indices:
            try:
                attempt([index])
            except Exception as cause:
                raise _failure(task, index, f"{type(cause).__name__}: {cause}") from cause
        raise GenerationError(
            f"{task.split} samples {task.start} to {task.stop - 1} fail together, though each can "
            f"be solved alone: {type(error).__name__}: {error}"
        ) from error


def _inspect(solution: Solution, arrays: Mapping[str, np.ndarray], task: Task) -> None:
    """Only finite, converged samples are written."""
    for name, array in arrays.items():
        finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
        if not finite.all():
            index = task.start + int(np.argmin(finite))
            raise _failure(task, index, f"field {name!r} holds NaN or infinity.")
    residual, tolerance = solution.residual.numpy(), solution.tolerance
    converged = residual <= tolerance
    if not converged.all():
        row = int(np.argmin(converged))
        reason = f"its residual {residual[row]:.1e} is above the tolerance {tolerance:.1e}."
        raise _failure(task, task.start + row, reason)


def _failure(task: Task, index: int, reason: str) -> GenerationError:
    return GenerationError(f"{task.split} sample {index} cannot be made: {reason}")


def field_moments(metadata: Metadata, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Of every field and, under `<name>_delta`, of its change from frame to frame."""
    moments = {}
    for field in metadata.input_fields + metadata.target_fields:
        width = metadata.ndim if order(field, metadata.ndim) else 1
        values = {field.name: arrays[field.name]}
        if metadata.num_frames is not None and field in metadata.target_fields:
            values[f"{field.name}_delta"] = np.diff(arrays[field.name], axis=1)
        for name, array in values.items():
            found = Moments.of(torch.from_numpy(array.reshape(-1, width)))
            moments[name] = [found.count, found.mean.tolist(), found.m2.tolist()]
    return moments
