"""Means over the processes of `torch.distributed`."""

import torch
from torch import Tensor
from torch import distributed as dist


def averaged(x: Tensor) -> Tensor:
    """The mean over processes, in place."""
    if dist.is_initialized() and dist.get_world_size() > 1:
        dist.all_reduce(x)
        x /= dist.get_world_size()
    return x


def average_over_processes(tensors: list[Tensor]) -> None:
    """Of all tensors in one message."""
    if not tensors or not dist.is_initialized() or dist.get_world_size() == 1:
        return
    flat = averaged(torch.cat([t.reshape(-1) for t in tensors]))
    for t, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
        t.copy_(part.view_as(t))
