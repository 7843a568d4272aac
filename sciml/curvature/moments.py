"""AdamW's moments, and steps of its length in other directions."""

from collections.abc import Container

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from sciml.curvature.finite import NonFiniteError
from sciml.curvature.parameter_vector import real

TINY, LARGE = 1e-30, 1e30
Moves = list[tuple[nn.Parameter, Tensor]]


def require_adamw(optimizer: Optimizer, name: str, takes: str = "the length of its steps") -> None:
    """ValueError if `optimizer` is not what the method `name` takes something from."""
    if not isinstance(optimizer, AdamW):
        raise ValueError(
            f"{name} takes {takes} from AdamW, not {type(optimizer).__name__}: set "
            "optimizer=adamw, or curvature=none."
        )
    for option in ("maximize", "amsgrad"):
        if any(group.get(option) for group in optimizer.param_groups):
            raise ValueError(
                f"{name} does not follow optimizer.{option}=true: leave it false, or set "
                "curvature=none."
            )


class Moments:
    """m and v of all parameters of an optimizer, and `move`, which goes as far as AdamW would
    [Loshchilov & Hutter 2019, algorithm 2] in a given direction.

        m <- beta_1 m + (1 - beta_1) g,     v <- beta_2 v + (1 - beta_2) |g|^2
        |u| = | m / (1 - beta_1^t) / ((v / (1 - beta_2^t))^(1/2) + eps) |    of each tensor

    For complex weights, those in `pairs` (by id) and complex tensors, |g|^2 is the mean over real
    and imaginary part: v takes half the room and does not change when phases turn.
    """

    def __init__(self, optimizer: Optimizer, pairs: set[int]):
        self.optimizer, self.pairs = optimizer, pairs
        self._lengths: dict[nn.Parameter, tuple[Tensor, float, dict]] = {}

    def update(self) -> None:
        """Take in the gradients, find the lengths."""
        self._lengths.clear()
        for group in self.optimizer.param_groups:
            present = [p for p in group["params"] if p.grad is not None]
            if not present:
                continue
            for p in present:
                self._start(p)
            beta, _ = group["betas"]
            states = [self.optimizer.state[p] for p in present]
            gradients = [real(p.grad) for p in present]
            averages = [s["exp_avg"] for s in states]
            torch._foreach_lerp_(averages, gradients, 1 - beta)
            lengths = self._find_lengths(group, present, states, gradients)
            for p, (length, factor) in zip(present, lengths, strict=True):
                self._lengths[p] = (length, factor, group)

    def _find_lengths(self, group, present, states, gradients) -> list[tuple[Tensor, float]]:
        """| m / (v^(1/2) + eps (1 - beta_2^t)^(1/2)) | of each, and what makes it |u|."""
        _, beta2 = group["betas"]
        lengths: list[Tensor | None] = [None] * len(present)
        factors, plain = [], []
        for i, (p, state, g) in enumerate(zip(present, states, gradients, strict=True)):
            state["step"] += 1
            root = (1 - beta2 ** state["step"]) ** 0.5
            factors.append(root / self._correction(group, p))
            if not self._is_pair(p):
                plain.append(i)
                continue
            v, m = state["exp_avg_sq"], state["exp_avg"]
            v.mul_(beta2)
            for part in g.unbind(-1):
                v.addcmul_(part, part, value=(1 - beta2) / 2)
            denominator = v.sqrt().add_(group["eps"] * root)
            squares = sum((part / denominator).square_().sum() for part in m.unbind(-1))
            lengths[i] = squares.sqrt()
        for t in {states[i]["step"] for i in plain}:
            chosen = [i for i in plain if states[i]["step"] == t]
            g, v, m = (
                [column[i] for i in chosen]
                for column in (
                    gradients,
                    [s["exp_avg_sq"] for s in states],
                    [s["exp_avg"] for s in states],
                )
            )
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, g, g, 1 - beta2)
            denominators = torch._foreach_sqrt(v)
            torch._foreach_add_(denominators, group["eps"] * (1 - beta2**t) ** 0.5)
            norms = torch._foreach_norm(torch._foreach_div(m, denominators))
            for i, norm in zip(chosen, norms, strict=True):
                lengths[i] = norm
        return list(zip(lengths, factors, strict=True))

    def move(
        self, moves: Moves, *, graft: bool = True, bound: float | None = None
    ) -> list[nn.Parameter]:
        """One step of parameters, d = -c P(m) for each in its direction P(m), in the shape of its
        real numbers: with c such that |d| = lr |u|, or without `graft` c = lr / (1 - beta_1^t).
        All are shorter, and decay by as much less, where sum c^2 m.P(m), which is d.P^(-1) d,
        exceeds `bound`. Parameters whose d is not finite stay as they are, do not count in that
        sum, and are returned; `NonFiniteError` if that is all of them.
        """
        if not moves:
            return []
        parameters, directions = zip(*moves, strict=True)
        lengths, factors, groups = zip(*(self._lengths[p] for p in parameters), strict=True)
        norms = torch.stack(torch._foreach_norm(directions))
        rates = [group["lr"] for group in groups]
        if graft:
            steps = norms.new_tensor([r * f for r, f in zip(rates, factors, strict=True)])
            scales = steps * torch.stack(lengths) / norms.clamp_min(TINY)
        else:
            corrected = zip(rates, groups, parameters, strict=True)
            scales = norms.new_tensor([r / self._correction(g, p) for r, g, p in corrected])
        valid, share = (norms * scales).isfinite(), 1.0
        if bound is not None:
            averages = [self.optimizer.state[p]["exp_avg"] for p in parameters]
            products = torch._foreach_mul(averages, directions)
            changes = scales * torch.stack([x.sum() for x in products]) * scales
            valid &= changes.abs() < LARGE
            change = changes.where(valid, 0.0).sum()
            share = (bound / change.clamp_min(TINY)).sqrt().clamp_max(1.0)
            scales = scales * share
        chosen = valid.tolist()
        if not any(chosen):
            raise NonFiniteError(
                "the step of no tensor is finite. The weights are those of the step before. Lower "
                "optimizer.lr, or set curvature=none."
            )
        moved = {p: i for i, p in enumerate(parameters) if chosen[i]}
        self._decay(moved, share)
        rows = scales.unbind()
        torch._foreach_addcmul_(
            [real(p) for p in moved],
            [directions[i] for i in moved.values()],
            [rows[i] for i in moved.values()],
            -1.0,
        )
        return [p for p in parameters if p not in moved]

    def _decay(self, parameters: Container[nn.Parameter], share: Tensor | float = 1.0) -> None:
        """Shrink parameters by their weight decay times lr times `share`."""
        for group in self.optimizer.param_groups:
            chosen = [real(p) for p in group["params"] if p in parameters]
            if chosen and group["weight_decay"]:
                torch._foreach_mul_(chosen, 1 - group["lr"] * group["weight_decay"] * share)

    def first_order(self) -> None:
        """AdamW's own step of all parameters."""
        self._decay(self._lengths)
        for p, (_, _, group) in self._lengths.items():
            state, t = self.optimizer.state[p], self.optimizer.state[p]["step"]
            denominator = state["exp_avg_sq"].sqrt() * (1 - group["betas"][1] ** t) ** -0.5
            denominator = denominator + group["eps"]
            denominator = denominator[..., None] if self._is_pair(p) else denominator
            rate = group["lr"] / self._correction(group, p)
            real(p).sub_(state["exp_avg"] / denominator * rate)

    def _correction(self, group: dict, p: nn.Parameter) -> float:
        """Of m, which began at zero."""
        return 1 - group["betas"][0] ** self.optimizer.state[p]["step"]

    def _start(self, p: nn.Parameter) -> None:
        if "step" not in self.optimizer.state[p]:
            numbers = real(p.detach())
            v = numbers[..., 0] if self._is_pair(p) else numbers
            self.optimizer.state[p] |= {
                "step": 0,
                "exp_avg": torch.zeros_like(numbers),
                "exp_avg_sq": torch.zeros_like(v, memory_format=torch.contiguous_format),
            }

    def _is_pair(self, p: nn.Parameter) -> bool:
        return p.is_complex() or id(p) in self.pairs
