"""The Well's `stats.yaml`: mean, std and rms of each field over the training split."""

import math
from functools import reduce

import torch
import yaml

from datasets.layout import order
from datasets.manifest import Manifest
from datasets.normalize import Moments

NAME = "stats.yaml"


def stats_yaml(manifest: Manifest) -> bytes:
    """Merged from the moments of the training shards, in their order.

    The format also has statistics of the change from frame to frame. A steady solution has one
    frame and does not change: these are 0, and readers that divide by std_delta replace it by a
    small number. Of trajectories they are not known and left out. Without training samples the
    tables are empty.
    """
    metadata, statistics = manifest.metadata, ("mean", "std", "rms")
    deltas = [f"{name}_delta" for name in statistics if metadata.dt is None]
    table: dict[str, dict] = {key: {} for key in (*statistics, *deltas)}
    shards = manifest.of("train")
    for field in metadata.input_fields + metadata.target_fields if shards else ():
        parts = [
            Moments(count, *torch.tensor([mean, m2], dtype=torch.float64))
            for count, mean, m2 in (shard.moments[field.name] for shard in shards)
        ]
        total = reduce(Moments.merge, parts)
        rank = order(field, metadata.ndim)
        pairs = list(zip(total.mean.tolist(), total.std.tolist(), strict=True))
        columns = {
            "mean": [mean for mean, _ in pairs],
            "std": [std for _, std in pairs],
            "rms": [math.hypot(mean, std) for mean, std in pairs],
        }
        for key, column in columns.items():
            table[key][field.name] = column if rank else column[0]
        if field in metadata.target_fields:
            for key in deltas:
                table[key][field.name] = [0.0] * len(pairs) if rank else 0.0
    return yaml.safe_dump(table, sort_keys=True).encode()
