"""The inverse of the covariance of the last gradients, without any matrix of the parameters."""

import logging
import math
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sciml.curvature.gradient_window import GradientWindow
from sciml.curvature.method_state import taken_apart, with_own
from sciml.curvature.moments import Moments, require_adamw
from sciml.curvature.pairs import layouts
from sciml.curvature.parameter_vector import real
from sciml.gauss_newton import Expansion

log = logging.getLogger(__name__)


class MFAC(Optimizer):
    """Steps along M-FAC's direction, as long as those of AdamW [Frantar et al. 2021,
    arXiv:2107.03356, the dynamic algorithm; grafting: Agarwal et al. 2020, arXiv:2002.11803].

        m <- beta_1 m + (1 - beta_1) g
        theta <- (1 - lr weight_decay) theta - lr |u| P(m) / |P(m)|,    u = AdamW's direction
        P = (lambda + 1/n sum_i g_i g_i^T)^(-1),    lambda = damping tr(1/n sum_i g_i g_i^T) / n

    for each tensor, with the last n <= `window` gradients g_i of all parameters together: an
    empirical Fisher matrix, of steps rather than of samples. P is applied to the momentum, whose
    noise is that of many gradients; it is linear, so to apply it to gradients and average then
    would differ only by how old the g_i are. lambda is `damping` times the mean of the n
    eigenvalues that are not zero, hence direction and damping do not change with the scale of the
    loss. lr, betas, eps and weight_decay are those of `optimizer`, an AdamW that is not stepped
    itself. A complex number counts as two real ones; `attach(model, objective)` says where they
    are, so that the two share a second moment, and is not needed otherwise.

    By Woodbury's formula (`GradientWindow`) a step costs two products with the n x d matrix of
    gradients and one Cholesky factorisation in double precision, O(n d + n^3); of its Gram matrix,
    n x n, one row changes. The published recursion has n^2 in place of n^3, which is the smaller
    term either way where n^2 < d, but lets rounding errors add up.

    Memory, and with it every checkpoint, grows by window x d numbers; above `max_memory_mb` it is
    refused. What it does not do: several processes with gradients of their own (they must be
    averaged before, as `DistributedDataParallel` does), parameters that join later, blocks of
    parameters, sparse gradients.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        window: int = 32,
        damping: float = 0.1,
        max_memory_mb: float = 1024,
    ):
        require_adamw(optimizer, "MFAC")
        if window < 1 or not damping > 0 or not max_memory_mb > 0:
            raise ValueError(
                f"MFAC: window={window} must be at least 1, damping={damping} and "
                f"max_memory_mb={max_memory_mb} positive."
            )
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self.damping = damping
        self.failures: dict[str, int] = {}
        self._pairs: set[int] = set()
        self._parts: dict[nn.Parameter, slice] = {}
        everything = [p for group in self.param_groups for p in group["params"]]
        end = 0
        for p in everything:
            if p.requires_grad:
                begin, end = end, end + real(p).numel()
                self._parts[p] = slice(begin, end)
        like = real(everything[0])
        row, product = end * like.element_size() / 1e6, 8 / 1e6  # MB; products are float64
        taken = window * (row + window * product)
        if taken > max_memory_mb:
            most = (math.sqrt(row**2 + 4 * product * max_memory_mb) - row) / (2 * product)
            raise ValueError(
                f"MFAC: window={window} gradients of {end:,} numbers and their products take "
                f"{taken:,.1f} MB, more than max_memory_mb={max_memory_mb:g}; set window to at "
                f"most {int(most)}, or raise max_memory_mb."
            )
        self.window = GradientWindow(window, end, like)

    def attach(self, model: nn.Module, objective: Callable[[int | None], Expansion]) -> None:
        """Learn which parameters are pairs of real numbers; the objective is not asked."""
        self._pairs = {key for key, layout in layouts(model).items() if layout.is_pair}

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moments = Moments(self, self._pairs)
        moments.update()
        present = [p for p in self._parts if p.grad is not None]
        g, m = self.window.rows.new_zeros(2, self.window.rows.shape[1])
        for p in present:
            part = self._parts[p]
            g[part] = real(p.grad).reshape(-1)
            m[part] = self.state[p]["exp_avg"].reshape(-1)
        products = self.window.absorb(g, m)
        direction = self.window.direction(m, products, self.damping)
        if direction is None:
            self._failed(
                "direction",
                "the damped matrix of the last gradients has no inverse; the step follows the "
                "momentum",
            )
            direction = m
        moves = [(p, direction[self._parts[p]].view(real(p).shape)) for p in present]
        if left := moments.move(moves):
            self._failed(
                "step", f"that of {len(left)} tensors is not finite; they stay where they are"
            )
        return loss

    def summary(self) -> str:
        rows = self.window.rows
        megabytes = rows.numel() * rows.element_size() / 1e6
        return f"MFAC: the last {len(rows)} gradients, {megabytes:,.1f} MB"

    def facts(self) -> dict:
        """For the record of a run."""
        return {
            "summary": self.summary(),
            "steps": self.window.taken,
            "failures": dict(self.failures),
        }

    def _failed(self, name: str, reason: str) -> None:
        self.failures[name] = self.failures.get(name, 0) + 1
        text = f"curvature, step {self.window.taken}: {reason}."
        if self.failures[name] == 1:
            warnings.warn(text, stacklevel=2)
        log.warning(text)

    def state_dict(self) -> dict:
        own = {"failures": dict(self.failures)} | self.window.state()
        return with_own(super().state_dict(), self, own)

    def load_state_dict(self, state_dict: dict) -> None:
        state, own = taken_apart(state_dict, self)
        self.window.load(own)
        super().load_state_dict(state)
        self.failures = dict(own["failures"])
