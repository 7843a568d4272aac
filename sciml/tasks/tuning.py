"""Solving one instance better than the operator that was learnt: training at test time."""

from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call
from torch.optim import Adam

from datasets.schema import Batch
from sciml.norms import l2_norm
from sciml.tasks.physics import Physics


@torch.enable_grad()
def tuned(
    task: Physics, batch: Batch, *, steps: int = 50, lr: float = 1e-3, anchor: float = 0.0
) -> Tensor:
    """u [b, c, *space] after the weights were fitted to the equation of each sample by itself.

        min over theta   ||R(a, u_theta)|| + anchor ||u_theta - u_0|| / ||u_0||,   u_0 = task(a)

    by `steps` of Adam from the weights of `task`, which stay as they are; the iterate with the
    smallest value is given, so that no sample misses its equation by more than u_0 does if
    `anchor` is 0 [PINO, Li et al. 2021, arXiv:2111.03794, section 3.3: instance-wise fine-tuning].
    Targets of the batch are not read. This costs a training of its own for every sample: compare
    with a solver in the same time.
    """
    if not (steps >= 1 and 0 < lr < torch.inf and 0 <= anchor < torch.inf):
        raise ValueError(
            f"steps={steps} must be at least 1, lr={lr} positive and anchor={anchor} not negative."
        )
    modes = {part: part.training for part in task.model.modules()}
    task.model.eval()  # batch normalisation as in task.eval()(a), its statistics left alone
    try:
        rows = zip(batch.input.split(1), batch.parameters.split(1), strict=True)
        return torch.cat([_one(task, a, p, batch, steps, lr, anchor) for a, p in rows])
    finally:
        for part, mode in modes.items():
            part.training = mode


def _one(
    task: Physics, a: Tensor, parameters: Tensor, batch: Batch, steps: int, lr: float, anchor: float
) -> Tensor:
    sample = batch._replace(input=a, parameters=parameters)
    weights = {
        name: value.detach().clone().requires_grad_()
        for name, value in task.model.named_parameters()
    }
    call = partial(functional_call, task.model, weights)
    a = task.input_normalizer(a)
    optimizer, start = Adam(weights.values(), lr), None
    best, smallest = None, torch.inf
    for step in range(1 + steps):
        u = task.target_normalizer.inverse(call((a,)))
        start = u.detach() if start is None else start
        moved = (l2_norm(u - start) / l2_norm(start)).mean() if anchor and step else 0.0
        loss = task.missed(sample, u).mean() + anchor * moved
        if loss.item() < smallest:
            best, smallest = u.detach(), loss.item()
        if step < steps:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if best is None:
        raise ValueError("the residual was never finite: train the operator first, or lower lr.")
    return best
