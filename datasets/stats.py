"""The Well's `stats.yaml`: mean, std and rms of each field over the training split."""

import math
from collections.abc import Sequence
from functools import reduce

import torch
import yaml

from datasets.layout import order
from datasets.manifest import Manifest, Shard
from datasets.normalize import Moments

NAME = "stats.yaml"
STATISTICS = ("mean", "std", "rms")


def stats_yaml(manifest: Manifest) -> bytes:
    """Merged from the moments of the training shards, in their order.

    The `_delta` statistics are those of the change from frame to frame. A steady solution has one
    frame and does not change: these are 0, and readers that divide by std_delta replace it by a
    small number. Without training samples the tables are empty.
    """
    metadata = manifest.metadata
    table: dict[str, dict] = {f"{key}{end}": {} for key in STATISTICS for end in ("", "_delta")}
    shards = manifest.of("train")
    for field in metadata.input_fields + metadata.target_fields if shards else ():
        rank = order(field, metadata.ndim)
        ends = ("", "_delta") if field in metadata.target_fields else ("",)
        for end in ends:
            if end and metadata.num_frames is None:
                columns = dict.fromkeys(STATISTICS, [0.0] * (metadata.ndim if rank else 1))
            else:
                columns = _columns(shards, field.name + end)
            for key, column in columns.items():
                table[f"{key}{end}"][field.name] = list(column) if rank else column[0]
    return yaml.safe_dump(table, sort_keys=True).encode()


def _columns(shards: Sequence[Shard], name: str) -> dict[str, list[float]]:
    parts = [
        Moments(count, *torch.tensor([mean, m2], dtype=torch.float64))
        for count, mean, m2 in (shard.moments[name] for shard in shards)
    ]
    total = reduce(Moments.merge, parts)
    mean, std = total.mean.tolist(), total.std.tolist()
    return dict(zip(STATISTICS, (mean, std, list(map(math.hypot, mean, std))), strict=True))
