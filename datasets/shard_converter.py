"""One shard of ours from samples that a reader of another format gives."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.layout import arrange
from datasets.manifest import Header, Shard
from datasets.schema import Field, Metadata, Source
from datasets.shards import Task, commit_shard
from datasets.trajectories import Trajectories

VERSION = 1


@dataclass(frozen=True)
class ShardConverter:
    """Writes and commits single shards of one data set from the samples of `parts`."""

    folder: Path
    header: Header
    parts: Mapping[str, Trajectories | Source]

    def __call__(self, task: Task) -> Shard:
        """Raises ValueError for NaN or infinity in float32, OSError when it cannot be written."""
        metadata = Metadata.from_dict(self.header.metadata)
        rows = range(task.start, task.stop)
        fields, parameters = _read(self.parts[task.split], rows, metadata)
        arrays = arrange(metadata, fields)
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise ValueError(f"{task.split}: field {name!r} holds NaN or infinity in float32.")
        values = dict(zip(metadata.parameters, parameters.T.numpy(), strict=True))
        return commit_shard(
            self.folder,
            task,
            (metadata, arrays, values),
            seed=self.header.seed,
            solver={"name": "converted", "version": VERSION},
            residual=0.0,
        )


def _read(
    part: Trajectories | Source, rows: Sequence[int], metadata: Metadata
) -> tuple[dict[str, Tensor], Tensor]:
    """Fields by name, with the axes that `arrange` expects, and parameters [b, p]."""
    if metadata.num_frames is None:
        batch = part.__getitems__(list(rows))
        input, target, parameters = batch.input, batch.target, batch.parameters
    else:
        frames = slice(0, metadata.num_frames)
        input = torch.stack([part.constants(row) for row in rows])
        target = torch.stack([part.read(row, frames) for row in rows])
        parameters = torch.stack([part.parameters(row) for row in rows])
    fields = named(input, metadata.input_fields, metadata.ndim)
    return fields | named(target, metadata.target_fields, metadata.ndim), parameters


def named(u: Tensor, fields: Sequence[Field], ndim: int) -> dict[str, Tensor]:
    """u [b, (t,) c, *space] by field; those with one component lose the axis c."""
    axis = u.dim() - 1 - ndim
    blocks = u.split([field.components for field in fields], dim=axis) if fields else ()
    pairs = zip(fields, blocks, strict=True)
    return {f.name: v.squeeze(axis) if f.components == 1 else v for f, v in pairs}
