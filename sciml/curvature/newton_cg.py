"""The Gauss-Newton method by conjugate directions as an optimizer."""

import logging
import math
import warnings
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sciml.curvature.batch_loss import BatchLoss, Objective
from sciml.curvature.kronecker_preconditioner import KroneckerFactored
from sciml.curvature.learned_scaling import LearnedScaling
from sciml.curvature.method_state import taken_apart, with_own
from sciml.curvature.moments import require_adamw
from sciml.curvature.newton_system import Limits, NewtonSystem
from sciml.curvature.parameter_vector import ParameterVector
from sciml.curvature.preconditioner import Identity, Jacobi, Preconditioner
from sciml.curvature.regularisation import RULES, Outcome, Regularisation

log = logging.getLogger(__name__)
PRECONDITIONERS = {
    "none": Identity,
    "jacobi": Jacobi,
    "kfac": KroneckerFactored,
    "learned": LearnedScaling,
}
ATTEMPTS = 5  # systems of one step that a rule for lambda may ask for
SUFFICIENT = 1e-4  # of the decrease that the slope promises [Armijo 1966]
FAILURES = ("not positive definite", "not finite")


class Report(NamedTuple):
    """How a step went: conjugate directions in all, why the last solve ended, lambda, decrease over
    what the quadratic model said for the whole step, the share of the step that was taken, and the
    loss of the batch before and after.
    """

    iterations: int
    reason: str
    damping: float
    ratio: float
    share: float
    before: float
    after: float


class NewtonCG(Optimizer):
    """Steps that minimise the quadratic model of the loss on the last batch [Martens 2010, ICML;
    Schraudolph 2002]:

        (G + lambda) d = -g,    theta <- (1 - lr' weight_decay) (theta + share lr c d)

    G is the Gauss-Newton matrix of the batch, or of its first `samples` samples, by products
    alone (`GaussNewtonProduct`); g is what the parameters' .grad holds, accumulated and clipped.
    The groups are those of `optimizer`, an AdamW that is not stepped itself: lr' and weight_decay
    are its, and c = lr' / (lr' at the start) is what the schedule makes of this method's own `lr`.

    Conjugate directions, two stored, end at a relative residual of `tolerance`, after
    `max_iterations`, or when the model falls by less than the share `progress` of itself per
    iteration (null: never). They begin with `decay` times the d of the last step, if that points
    downhill and was not refused. `preconditioner`: none, jacobi (`Jacobi`), kfac
    (`KroneckerFactored`), learned (`LearnedScaling`). `regularisation`: fixed,
    levenberg_marquardt or gradient_normalised, see the rules of those names, begins with
    lambda = `damping`; rules look at the whole d, whatever lr and the schedule make of it.

    The share is the first of 1, 1/2, 1/4, .. that lowers the loss of the batch as its slope
    promises (Armijo's condition with 1e-4); after `backtracks` halvings the step is refused and
    nothing moves. 0 takes every step as it is. A d that is not finite or does not point downhill
    gives way to -g as long as a step of AdamW, lr' for the root mean square of all parameters.
    Each kind of failure is named in a warning once, and in the log each time.

    All values are those of one and the same random numbers, those of the closure (`BatchLoss`).
    With accumulated gradients, g is the mean over micro-batches and everything else is of the last
    of them: prefer a larger batch. `attach(model, objective)` comes first, as with `KFAC`.
    Processes of `torch.distributed` average values, gradients and products; of batches that are
    not equally large each counts alike. `report` is about the last step, if there was one.

    It keeps the graph of all parts of the model and that of a backward pass: for an FNO some ten
    times the memory of a fused training step, less with `samples`. What it cannot do: parameters
    that join or are frozen later, sparse gradients, models that divide a batch among processes.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        lr: float = 1.0,
        preconditioner: Literal["none", "jacobi", "kfac", "learned"] | Preconditioner = "kfac",
        regularisation: Regularisation = "levenberg_marquardt",
        damping: float = 1.0,
        max_iterations: int = 30,
        tolerance: float = 1e-3,
        progress: float | None = 5e-3,
        decay: float = 0.95,
        backtracks: int = 6,
        samples: int | None = None,
    ):
        require_adamw(optimizer, "NewtonCG", "schedule and weight decay")
        if isinstance(preconditioner, str):
            preconditioner = _chosen("preconditioner", preconditioner, PRECONDITIONERS)()
        make_rule = _chosen("regularisation", regularisation, RULES)
        if any(not group["lr"] > 0 for group in optimizer.param_groups):
            raise ValueError(
                "optimizer.lr must be positive: NewtonCG reads the schedule from it, as its share."
            )
        if not (lr > 0 and 0 <= decay <= 1 and backtracks >= 0):
            raise ValueError(
                f"lr={lr} must be positive, decay={decay} from 0 to 1 and backtracks={backtracks} "
                "not negative."
            )
        if not 0 <= damping < math.inf or (damping == 0 and regularisation != "fixed"):
            raise ValueError(
                f"damping={damping} must be positive; only regularisation=fixed may have 0."
            )
        if max_iterations < 1 or not tolerance > 0 or (progress is not None and not progress > 0):
            raise ValueError(
                f"max_iterations={max_iterations} must be at least 1, tolerance={tolerance} and "
                f"progress={progress} positive (or null)."
            )
        if samples is not None and samples < 1:
            raise ValueError(f"samples={samples} must be at least 1, or null for the whole batch.")
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.lr, self.preconditioner, self.rule = lr, preconditioner, make_rule(damping)
        self.limits = Limits(tolerance, max_iterations, progress)
        self.decay, self.backtracks, self.samples = decay, backtracks, samples
        self.peaks = [group["lr"] for group in self.param_groups]
        self.steps, self.failures = 0, {}
        self.report: Report | None = None
        self._objective: Objective | None = None

    def attach(self, model: nn.Module, objective: Objective) -> None:
        """Learn of the model whose parameters these are, and of the loss."""
        self._model, self._objective = model, objective
        groups = [[p for p in g["params"] if p.requires_grad] for g in self.param_groups]
        if not any(groups):
            raise ValueError("NewtonCG: all parameters are frozen; let some have requires_grad.")
        self._counts = [len(group) for group in groups]
        self.layout = ParameterVector([p for group in groups for p in group])
        self._previous = torch.zeros_like(self.layout.values())
        self.preconditioner.attach(model, self.layout, self._failed)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        if self._objective is None:
            raise ValueError("NewtonCG: call attach(model, objective) before step().")
        batch = BatchLoss(self._objective, self._model, self.layout)  # notes the random state
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.steps, self.report = self.steps + 1, None
        g = self.layout.join([p.grad for p in self.layout.parameters])
        if bool(g.isfinite().all()):
            self._advance(batch, g)
        else:
            self._failed("gradient", "it is not finite; the parameters stay")
        return loss

    def _advance(self, batch: BatchLoss, g: Tensor) -> None:
        self.preconditioner.renew(batch)
        G = batch.curvature(self.samples)
        f, slope = batch.with_gradient(G if self.samples is None else None)
        self.preconditioner.observe(G)
        system = NewtonSystem(G, g, self.preconditioner, self.limits)
        start, size, iterations = self.layout.values(), float(g.norm()), 0
        for _ in range(ATTEMPTS):
            damping = self.rule.damping(size)
            d, reason, count = system.solve(damping, self.decay * self._previous)
            iterations += count
            d = self._downhill(d, g, reason)
            outcome = self._outcome(batch, f, system.predicted(slope, d), start, d)
            if self.rule.judge(outcome):
                break
        else:
            self._failed("regularisation", f"none of {ATTEMPTS} values of lambda would do")
        step = self._scaled(d)
        whole = f - outcome.decrease if step is d else None
        share, after = self._search(batch, f, float(torch.dot(slope, step)), start, step, whole)
        self._decay_weights(1.0 if share > 0 else 0.0)
        self._previous.copy_(d if share > 0 else torch.zeros_like(d))
        ratio = outcome.decrease / outcome.predicted if outcome.predicted else math.nan
        self.report = Report(iterations, reason, damping, ratio, share, f, after)

    def _downhill(self, d: Tensor, g: Tensor, reason: str) -> Tensor:
        """d, or what takes its place."""
        if reason in FAILURES:
            self._failed("conjugate directions", f"G + lambda is {reason}")
        if bool(d.isfinite().all()) and torch.dot(d, g) < 0:
            return d
        size = g.norm()
        if size == 0:
            return torch.zeros_like(g)
        self._failed("direction", "it does not point downhill; minus the gradient takes its place")
        return -self.peaks[0] * len(g) ** 0.5 / size * g

    def _outcome(self, batch, f: float, predicted: float, start: Tensor, d: Tensor) -> Outcome:
        """Of the whole step d; the parameters are where they were afterwards."""
        self.layout.assign(start + d)
        if self.rule.needs_gradient:
            value, gradient = batch.with_gradient()
            size = float(gradient.norm())
        else:
            value, size = batch.value(), math.nan
        self.layout.assign(start)
        return Outcome(f - value, predicted, size)

    def _search(self, batch, f: float, slope: float, start: Tensor, step: Tensor, whole):
        """The share of the step that is taken, and the loss there; `whole` is that of share 1, if
        known.
        """
        share = 1.0
        for _ in range(self.backtracks + 1):
            self.layout.assign(start + share * step)
            value = batch.value() if share < 1 or whole is None else whole
            if self.backtracks == 0 or value <= f + SUFFICIENT * share * min(slope, 0.0):
                return share, value
            share /= 2
        self.layout.assign(start)
        self._failed("step", f"{2 * share:g} of it still raises the loss; the parameters stay")
        return 0.0, f

    def _scaled(self, d: Tensor) -> Tensor:
        """lr c d, with the c of each group."""
        factors = [
            self.lr * group["lr"] / peak
            for group, peak in zip(self.param_groups, self.peaks, strict=True)
        ]
        if set(factors) == {1.0}:
            return d
        each = [f for f, n in zip(factors, self._counts, strict=True) for _ in range(n)]
        parts = d.split(self.layout.sizes)
        return torch.cat([f * part for f, part in zip(each, parts, strict=True)])

    def _decay_weights(self, share: float) -> None:
        """Even by zero: so autograd learns that the parameters have changed."""
        for group in self.param_groups:
            present = [p for p in group["params"] if p.grad is not None]
            torch._foreach_mul_(present, 1 - share * group["lr"] * group["weight_decay"])

    def summary(self) -> str:
        rule, solver = type(self.rule).__name__, type(self.preconditioner).__name__
        return (
            f"NewtonCG: up to {self.limits.max_iterations} conjugate directions, {solver}, {rule}"
        )

    def facts(self) -> dict:
        """For the record of a run."""
        return {
            "summary": self.summary(),
            "steps": self.steps,
            "failures": dict(self.failures),
        }

    def _failed(self, name: str, reason: str) -> None:
        self.failures[name] = self.failures.get(name, 0) + 1
        if self.failures[name] == 1:
            warnings.warn(f"NewtonCG, step {self.steps}, {name}: {reason}.", stacklevel=2)
        log.warning("NewtonCG, step %d, %s: %s", self.steps, name, reason)

    def state_dict(self) -> dict:
        own = {
            "steps": self.steps,
            "failures": dict(self.failures),
            "direction": self._previous,
            "regularisation": self.rule.state(),
            "preconditioner": self.preconditioner.state(),
        }
        return with_own(super().state_dict(), self, own)

    def load_state_dict(self, state_dict: dict) -> None:
        state, own = taken_apart(state_dict, self)
        super().load_state_dict(state)
        self.steps, self.failures = own["steps"], dict(own["failures"])
        self._previous.copy_(own["direction"])
        self.rule.load(own["regularisation"])
        self.preconditioner.load(own["preconditioner"])


def _chosen(key: str, name: str, choices: dict):
    if name not in choices:
        raise ValueError(f"{key}={name} must be one of {', '.join(choices)}.")
    return choices[name]
