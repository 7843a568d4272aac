"""Kronecker-factored approximate curvature as an optimizer."""

import math
from collections.abc import Callable, Sequence
from typing import get_args

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sciml.curvature.batch_loss import BatchLoss
from sciml.curvature.blocked import BLOCK_SIZE
from sciml.curvature.capture import Fisher
from sciml.curvature.factored import Block, Factored, Objective, Samples
from sciml.curvature.kronecker import Kronecker
from sciml.curvature.linear import Sharing
from sciml.curvature.method_state import taken_apart, with_own
from sciml.curvature.moments import Moments, require_adamw
from sciml.curvature.parameter_vector import ParameterVector
from sciml.curvature.processes import averaged
from sciml.curvature.tokens import Layer

EARLY, EVERY = 20, 4  # the first steps, in which factors and inverses are renewed more often
RATIOS, RATE = (0.25, 0.75), 0.95  # of decrease to prediction; change of the damping per step
DAMPING_BOUNDS = (1e-8, 1e2)


class KFAC(Optimizer):
    """Steps along the natural gradient, as long as those of AdamW [Martens & Grosse 2015,
    arXiv:1503.05671; grafting: Agarwal et al. 2020, arXiv:2002.11803].

        m <- beta_1 m + (1 - beta_1) g
        theta <- (1 - lr weight_decay) theta - lr |u| P(m) / |P(m)|,    u = AdamW's direction

    for each tensor, with P = (G + damping)^(-1) in Kronecker form (`Kronecker`) for the layers
    that `cover` finds, spectral convolutions mode by mode, sides longer than `block_size` cut into
    blocks, and its diagonal for all else. lr, betas, eps and weight_decay are those of `optimizer`,
    an AdamW that is not stepped itself. The second moment of a complex weight is one number for
    real and imaginary part.

    G, the Gauss-Newton matrix of the loss, is sampled every `factor_period` steps in one more
    forward and backward pass on the first `samples` samples of the batch (null: all; "auto": what
    the layers need, see `Factored`), by `fisher="monte_carlo"`; it is averaged over time with
    `decay`. Inverses are renewed every `inverse_period` steps. In the first 20 steps both happen
    every four.

    `kl_clip` (null: none) bounds what a step may change, as a share of the loss: with d the steps
    of all tensors together, they and the weight decay are shortened alike where d.(G + damping) d
    exceeds `kl_clip` times the lowest loss of any pass so far. For the relative L2 loss that share
    is |change|^2 / |error|^2 of the predictions, twice their Kullback-Leibler divergence if they
    are as uncertain as they are wrong [Ba, Grosse & Martens 2017, there with a fixed variance]. The
    blocks say less of the change than G does, so that the true share is at times some ten times
    larger; still it keeps most large learning rates from losing a training in one step.

    `graft=False` takes the steps of the method itself instead, -lr P(m) / (1 - beta_1^t), with the
    same bound. Only then `damping_period` (null: never) is how often the damping follows Levenberg
    and Marquardt: multiplied by 0.95 for each step of the period where the loss of the `samples`
    fell by more than 3/4 of what the quadratic model said, divided by it below 1/4 [Martens &
    Grosse 2015, section 6.5].

    `attach(model, objective)` comes first; `objective(samples)` is the `Expansion` of the loss on
    the last batch. Use it as any optimizer: `step(closure)`, gradients accumulated and clipped
    before. `curvature`, a `Factored`, knows the layers and the blocks. What it cannot do: several
    learning rates within a layer, parameters that join later, sparse gradients.
    """

    geometry: Callable[[Layer], Block] = Kronecker

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        damping: float = 1e-2,
        floor: float = 1e-2,
        factor_period: int = 10,
        inverse_period: int = 50,
        decay: float = 0.95,
        samples: Samples = None,
        fisher: Fisher = "monte_carlo",
        sharing: Sharing = "expand",
        exclude: Sequence[str] = (),
        block_size: int | None = BLOCK_SIZE,
        graft: bool = True,
        kl_clip: float | None = None,
        damping_period: int | None = None,
    ):
        require_adamw(optimizer, type(self).__name__)
        counts = {
            "factor_period": factor_period,
            "inverse_period": inverse_period,
            "samples": samples,
            "block_size": block_size,
            "damping_period": damping_period,
        }
        for name, count in counts.items():
            automatic = name == "samples" and count == "auto"
            if count is not None and not automatic and not (isinstance(count, int) and count >= 1):
                more = ' or "auto"' if name == "samples" else ""
                raise ValueError(
                    f"{type(self).__name__}: {name}={count} must be a whole number of at least 1"
                    f"{more}."
                )
        if fisher not in get_args(Fisher) or sharing not in get_args(Sharing):
            raise ValueError(
                f"{type(self).__name__}: fisher={fisher} must be one of "
                f"{', '.join(get_args(Fisher))}, sharing={sharing} one of "
                f"{', '.join(get_args(Sharing))}."
            )
        if isinstance(exclude, str):
            raise ValueError(
                f"{type(self).__name__}: exclude={exclude!r} must be a list of regular expressions."
            )
        if not (0 < damping < math.inf and 0 <= floor < math.inf and 0 <= decay < 1):
            raise ValueError(
                f"{type(self).__name__}: damping={damping} must be positive, floor={floor} not "
                f"negative and decay={decay} from 0 to below 1."
            )
        if damping_period is not None and graft:
            raise ValueError(
                f"{type(self).__name__}: damping_period={damping_period} needs graft=false; steps "
                "as long as AdamW's are good or bad for reasons that damping does not change."
            )
        if kl_clip is not None and not kl_clip > 0:
            raise ValueError(f"{type(self).__name__}: kl_clip={kl_clip} must be positive, or null.")
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.factor_period, self.inverse_period = factor_period, inverse_period
        self.graft, self.kl_clip, self.damping_period = graft, kl_clip, damping_period
        self._settings = {
            "damping": damping,
            "floor": floor,
            "decay": decay,
            "samples": samples,
            "fisher": fisher,
            "sharing": sharing,
            "exclude": tuple(exclude),
            "block_size": block_size,
        }
        self.steps = 0
        self.curvature: Factored | None = None

    def attach(self, model: nn.Module, objective: Objective) -> None:
        """Learn of the model whose parameters these are, and of the loss."""
        known = {id(p) for p in model.parameters()}
        held = [p for group in self.param_groups for p in group["params"] if p.requires_grad]
        if strange := [tuple(p.shape) for p in held if id(p) not in known]:
            raise ValueError(
                f"{type(self).__name__}: {len(strange)} parameters, the first of shape "
                f"{strange[0]}, are none of the model's, whose curvature is taken; give them an "
                "optimizer of their own, or set curvature=none."
            )
        self.curvature = Factored(model, objective, self.geometry, **self._settings)
        self._moments = Moments(self, self.curvature.pairs)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        if self.curvature is None:
            raise ValueError(f"{type(self).__name__}: call attach(model, objective) before step().")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        early = self.steps < EARLY and self.steps % EVERY == 0
        if early or self.steps % self.factor_period == 0:
            self.curvature.observe()
        if early or self.steps % self.inverse_period == 0:
            self.curvature.refresh()
        self.steps += 1
        if self.damping_period is not None and self.steps % self.damping_period == 0:
            self._move_and_judge()
        else:
            self._move()
        return loss

    def _move(self) -> None:
        moments = self._moments
        moments.update()
        moves = self.curvature.apply(lambda p: None if p.grad is None else self.state[p]["exp_avg"])
        for p in moments.move(moves, graft=self.graft, bound=self._bound()):
            name = next(n for n, q in self.curvature.parameters.items() if q is p)
            self.curvature.failed(name, "its step is not finite; it stays where it is")

    def _bound(self) -> float | None:
        """Of the change by a step; none while there is no loss to compare it with."""
        loss = self.curvature.least_loss
        return None if self.kl_clip is None or not 0 < loss < math.inf else self.kl_clip * loss

    def _move_and_judge(self) -> None:
        """A step, and the damping that its success asks for."""
        curvature = self.curvature
        layout = ParameterVector(
            p for g in self.param_groups for p in g["params"] if p.requires_grad
        )
        batch = BatchLoss(lambda _: curvature.objective(curvature.samples), curvature.model, layout)
        start = layout.values()
        self._move()
        end = layout.values()
        layout.assign(start)  # the graph of G is that of the weights before
        G = batch.curvature()
        before, gradient = batch.with_gradient(G)
        d = end - start
        predicted = -float(torch.dot(gradient, d) + torch.dot(d, averaged(G(d))) / 2)
        layout.assign(end)
        ratio = (before - batch.value()) / predicted if predicted > 0 else -1.0
        change = RATE**self.damping_period
        damping = curvature.damping
        if ratio > RATIOS[1]:
            damping *= change
        elif not ratio >= RATIOS[0]:
            damping /= change
        curvature.damping = min(max(damping, DAMPING_BOUNDS[0]), DAMPING_BOUNDS[1])

    def summary(self) -> str:
        return f"{type(self).__name__}: {self.curvature.coverage.summary()}"

    def facts(self) -> dict:
        """For the record of a run."""
        return {"summary": self.summary(), "steps": self.steps} | self.curvature.facts()

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.curvature is None:
            return state
        return with_own(state, self, {"steps": self.steps} | self.curvature.state())

    def load_state_dict(self, state_dict: dict) -> None:
        if self.curvature is None:
            raise ValueError(
                f"{type(self).__name__}: call attach(model, objective) before loading."
            )
        state, own = taken_apart(state_dict, self)
        super().load_state_dict(state)
        self.steps = own["steps"]
        self.curvature.load(own)
