"""Samples of a batch divided among the processes of `torch.distributed`."""

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.func import functional_call


def map_shared(model: nn.Module, x: Tensor) -> Tensor:
    """model(x), of which every process computes its share of the rows and then has them all.

    All processes must call it with the same x and the same parameters, and go on with the result
    alike. The gradients of x and of the parameters are then those of a single process, in every
    process: they are summed once, in the backward pass. So nothing changes where a wrapper such as
    DistributedDataParallel takes the mean of them. Without a group of processes it is model(x).
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return model(x)
    names, parameters = zip(*model.named_parameters(), strict=True)
    x, *parameters = _Replicated.apply(x, *parameters)
    start, end = _rows(len(x), dist.get_rank())
    part = functional_call(model, dict(zip(names, parameters, strict=True)), (x[start:end],))
    return _Gathered.apply(part, len(x))


def _rows(count: int, rank: int) -> tuple[int, int]:
    """The share of a process, from a row to before another."""
    world = dist.get_world_size()
    return count * rank // world, count * (rank + 1) // world


class _Replicated(torch.autograd.Function):
    """Tensors that are equal in all processes; their gradients are summed over the processes."""

    @staticmethod
    def forward(ctx, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.view_as(tensor) for tensor in tensors)

    @staticmethod
    def backward(ctx, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        asked = [i for i, needed in enumerate(ctx.needs_input_grad) if needed]
        flat = torch.cat([gradients[i].reshape(-1) for i in asked])  # one message for all
        dist.all_reduce(flat)
        summed: list[Tensor | None] = [None] * len(gradients)
        for i, part in zip(asked, flat.split([gradients[i].numel() for i in asked]), strict=True):
            summed[i] = part.view_as(gradients[i]).to(gradients[i].dtype)
        return tuple(summed)


class _Gathered(torch.autograd.Function):
    """The rows of all processes. Each goes on with all of them, so its own have its gradient."""

    @staticmethod
    def forward(ctx, part: Tensor, count: int) -> Tensor:
        ctx.rows = _rows(count, dist.get_rank())
        shares = [_rows(count, rank) for rank in range(dist.get_world_size())]
        longest = max(end - start for start, end in shares)
        sent = part.new_zeros(longest, *part.shape[1:])  # the messages have equal lengths
        sent[: len(part)] = part
        received = [torch.empty_like(sent) for _ in shares]
        dist.all_gather(received, sent)
        return torch.cat([r[: e - s] for r, (s, e) in zip(received, shares, strict=True)])

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        start, end = ctx.rows
        return gradient[start:end], None
