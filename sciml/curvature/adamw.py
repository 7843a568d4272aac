"""AdamW for parameters that have no matrices."""

import torch
from torch import Tensor, nn

from sciml.curvature.parameter_vector import real


def adamw(
    parameters: list[nn.Parameter],
    states: list[dict],
    pairs: list[bool],
    *,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """One step of AdamW [Loshchilov & Hutter 2019, algorithm 2] for all `parameters`.

    Complex numbers, whole or `pairs` [..., 2], have one second moment, the mean over real and
    imaginary part: turning a phase turns the step.
    """
    if not parameters:
        return
    x, g = [real(p) for p in parameters], [real(p.grad) for p in parameters]
    squares = mean_squares(g, pairs)
    for state, numbers, square in zip(states, x, squares, strict=True):
        if "step" not in state:
            state |= {"step": 0, "exp_avg": torch.zeros_like(numbers)}
            state["exp_avg_sq"] = torch.zeros_like(square)
        state["step"] += 1
    averages, seconds = ([s[key] for s in states] for key in ("exp_avg", "exp_avg_sq"))
    torch._foreach_lerp_(averages, g, 1 - betas[0])
    torch._foreach_lerp_(seconds, squares, 1 - betas[1])
    steps = [s["step"] for s in states]
    denominators = torch._foreach_sqrt(seconds)
    torch._foreach_mul_(denominators, [(1 - betas[1] ** t) ** -0.5 for t in steps])
    torch._foreach_add_(denominators, eps)
    directions = torch._foreach_div(averages, denominators)
    torch._foreach_mul_(directions, [lr / (1 - betas[0] ** t) for t in steps])
    if weight_decay:
        torch._foreach_mul_(x, 1 - lr * weight_decay)
    torch._foreach_sub_(x, directions)


def mean_squares(tensors: list[Tensor], pairs: list[bool]) -> list[Tensor]:
    """Squares, of pairs their mean [..., 1]."""
    squares = torch._foreach_mul(tensors, tensors)
    return [
        square.mean(-1, keepdim=True) if is_pair else square
        for square, is_pair in zip(squares, pairs, strict=True)
    ]
