"""Adam with the diagonal of the Hessian in place of squared gradients."""

import logging
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from sciml.curvature.capture import Capture
from sciml.curvature.pairs import PairedOptimizer
from sciml.curvature.parameter_vector import real
from sciml.curvature.processes import average_over_processes

log = logging.getLogger(__name__)
EARLY = 10  # steps at first that all sample the Hessian


class AdaHessian(PairedOptimizer):
    """AdaHessian [Yao et al. 2021, arXiv:2006.00719, algorithm 1].

        m <- beta_1 m + (1 - beta_1) g,      v <- beta_2 v + (1 - beta_2) D^2
        W <- (1 - lr weight_decay) W - lr m_t / (v_t^(hessian_power / 2) + eps)
        D = z * (H z) averaged over blocks,  z = +-1 at random

    with m_t and v_t corrected for their start at zero. D is an unbiased estimate of the diagonal
    of the Hessian H by one product with it (Hutchinson), exact where H is diagonal. v takes it in
    every `hessian_period` steps and is corrected for as many; ten at first come one by one, since
    a single D has entries near zero by chance, along which steps would be huge. Blocks are, with
    `average`, the
    kernels of convolutions, point by point of their footprint, as in the paper (whose code
    averages |D| there, and so what H adds from elsewhere does not cancel), and always the two
    parts of a complex number: z has an entry for each part, and the mean of the two is half the
    trace of their 2 x 2 block, the same for all phases.

    H is that of the loss on the first `samples` samples of the last batch (null: all), evaluated
    once more by the objective of `attach` and differentiated twice, which takes about four to
    five times a gradient, and more memory, as no layer is fused. Layers of batch normalisation
    use their running statistics there. Without `attach` gradients that carry a graph, of
    `backward(create_graph=True)`, are differentiated; if they carry none |g| stands for D and the
    steps are those of AdamW, with a warning. Where D is not finite the last v stays, with a
    warning that names the parameter. Processes of `torch.distributed` average D. What it does not
    do: more than one z, sums over accumulated batches. Good start: lr=0.15,
    betas=(0.9, 0.99), hessian_period=10 for FNOs.
    """

    needs_terms = False

    def __init__(
        self,
        params: ParamsT,
        lr: float = 0.15,
        betas: tuple[float, float] = (0.9, 0.999),
        *,
        eps: float = 1e-4,
        weight_decay: float = 0.0,
        hessian_power: float = 1.0,
        hessian_period: int = 1,
        average: bool = True,
        samples: int | None = None,
    ):
        if not (lr >= 0 and eps >= 0 and weight_decay >= 0 and all(0 <= b < 1 for b in betas)):
            raise ValueError(
                f"AdaHessian: lr={lr}, eps={eps} and weight_decay={weight_decay} must not be "
                f"negative, betas={tuple(betas)} from 0 to below 1."
            )
        periods = (hessian_period, 1 if samples is None else samples)
        if min(periods) < 1 or not 0 < hessian_power <= 1:
            raise ValueError(
                f"AdaHessian: hessian_period={hessian_period} and samples={samples} must be at "
                f"least 1, hessian_power={hessian_power} above 0 and at most 1."
            )
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"hessian_power": hessian_power})
        self.hessian_period, self.average, self.samples = hessian_period, average, samples
        self._warned: set[str] = set()

    def _advance(self) -> None:
        present = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p in present:
            state = self.state[p]
            if not state:
                blank = torch.zeros_like(real(p))
                state |= {"step": 0, "probes": 0, "exp_avg": blank}
                state["exp_hessian_sq"] = torch.zeros_like(self._averaged(p, blank))
        states = [self.state[p] for p in present]
        if any(s["step"] % self.hessian_period == 0 or s["probes"] < EARLY for s in states):
            self._probe(present)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._move(p, group)

    def _probe(self, parameters: list[nn.Parameter]) -> None:
        """One estimate of the diagonal in v."""
        diagonal = self._diagonal(parameters)
        if diagonal is None:
            self._warn(
                "graph",
                "AdaHessian: no objective is attached and gradients carry no graph, so their "
                "moduli stand for the Hessian: these steps are AdamW's.",
            )
            squares = [self._averaged(p, real(p.grad).square()) for p in parameters]
            diagonal = [square.sqrt() for square in squares]
        average_over_processes(diagonal)
        betas = {id(p): group["betas"] for group in self.param_groups for p in group["params"]}
        failed = []
        for p, D in zip(parameters, diagonal, strict=True):
            state = self.state[p]
            if bool(D.isfinite().all()):
                state["exp_hessian_sq"].lerp_(D.square(), 1 - betas[id(p)][1])
                state["probes"] += 1
            else:
                failed.append(p)
        if failed:
            self._warn(
                "finite",
                f"AdaHessian: {self.name(failed[0])}, step {self.state[failed[0]]['step']}: the "
                f"diagonal of its Hessian is not finite, nor are those of {len(failed) - 1} other "
                "tensors; those of before stay.",
            )

    def _diagonal(self, parameters: list[nn.Parameter]) -> list[Tensor] | None:
        """z * (H z), averaged; None where there is nothing to differentiate."""
        with torch.enable_grad():
            gradients = self._gradients(parameters)
            if self._objective is None and not any(g.requires_grad for g in gradients):
                return None
            z = [signs(real(p)) for p in parameters]
            walks = [(real(g), s) for g, s in zip(gradients, z, strict=True) if g.requires_grad]
            products = [None] * len(parameters)
            if walks:
                outputs, vectors = zip(*walks, strict=True)
                products = torch.autograd.grad(outputs, parameters, vectors, allow_unused=True)
        return [
            self._averaged(p, torch.zeros_like(s) if Hz is None else s * real(Hz))
            for p, s, Hz in zip(parameters, z, products, strict=True)
        ]

    def _gradients(self, parameters: list[nn.Parameter]) -> Sequence[Tensor]:
        """With a graph, if there is one."""
        if self._objective is None:
            return [p.grad for p in parameters]
        with Capture([], self._model):
            value = self._objective(self.samples).value
        return torch.autograd.grad(
            value, parameters, create_graph=True, allow_unused=True, materialize_grads=True
        )

    def _averaged(self, p: nn.Parameter, D: Tensor) -> Tensor:
        """Means over blocks, which stay as axes of length one."""
        if self.layout(p).is_pair:
            return D.mean(-1, keepdim=True)
        if self.average and D.ndim > 2 and self._is_kernel(p):
            return D.mean(tuple(range(2, D.ndim)), keepdim=True)
        return D

    def _is_kernel(self, p: nn.Parameter) -> bool:
        """Of a convolution, for all that is known."""
        known = self._model is None or id(p) in self._layouts
        return known and self.layout(p).kind == "kernel"

    def _move(self, p: nn.Parameter, group: dict) -> None:
        state, x, (beta1, beta2) = self.state[p], real(p), group["betas"]
        state["step"] += 1
        m = state["exp_avg"].lerp_(real(p.grad), 1 - beta1)
        if state["probes"] == 0:  # no D was finite yet
            return
        v = state["exp_hessian_sq"] / (1 - beta2 ** state["probes"])
        denominator = v.pow(group["hessian_power"] / 2).add_(group["eps"])
        if group["weight_decay"]:
            x.mul_(1 - group["lr"] * group["weight_decay"])
        x.addcdiv_(m, denominator, value=-group["lr"] / (1 - beta1 ** state["step"]))

    def _warn(self, key: str, text: str) -> None:
        if key not in self._warned:
            warnings.warn(text, stacklevel=2)
        self._warned.add(key)
        log.warning(text)


def signs(x: Tensor) -> Tensor:
    """+1 and -1 with equal probability, by torch's global random state."""
    return torch.empty_like(x).bernoulli_(0.5).mul_(2).sub_(1)
