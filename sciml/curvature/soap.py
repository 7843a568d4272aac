"""Adam in the eigenbasis of Shampoo, for complex spectral weights too."""

import logging
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from sciml.curvature.adamw import adamw
from sciml.curvature.matrices import Matrices
from sciml.curvature.pairs import PairedOptimizer
from sciml.curvature.parameter_vector import real
from sciml.curvature.wide import wide

log = logging.getLogger(__name__)
SIDES = ("left", "right")
Search = Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]


class SpectralSOAP(PairedOptimizer):
    """SOAP [Vyas et al. 2024, arXiv:2409.11321, algorithm 3]: AdamW on gradients that are rotated
    to the eigenvectors of Shampoo's factors.

        G' = Q_L^H G Q_R
        M' <- beta_1 M' + (1 - beta_1) G',      V <- beta_2 V + (1 - beta_2) |G'|^2
        W  <- (1 - lr weight_decay) W - lr Q_L (M'_t / (V_t^(1/2) + eps)) Q_R^H
        L  <- beta_2 L + (1 - beta_2) sum_k w_k G_k G_k^H,      R likewise of G_k^H G_k

    with M'_t and V_t corrected for their start at zero. A spectral weight is a stack of complex
    matrices G_k [in, out], one for each mode k, with a V of its own for each entry of each. Modes
    are not rotated into one another, since the curvature does not couple them, but share Q_L and
    Q_R: w_k = mean_j t_j / t_k, where t_k is the running mean of |G_k|^2, lets every mode have the
    same say, whatever its power. For a single matrix w = 1, and this is SOAP itself. Steps follow
    when phases of modes turn, and when channels are mixed by unitary matrices. |G'|^2 is the mean
    over real and imaginary part, so that lr means the same for real and complex weights.

    What counts as a matrix says `Matrices`: linear maps, kernels of convolutions as [out, rest],
    the factors and cores of factorised weights. Vectors, scales, and matrices with a side of one
    get AdamW. A side longer than `largest` keeps the identity for its basis; where both are,
    AdamW again. Factors are renewed every `factor_period` steps, bases every `basis_period` by one
    step of orthogonal iteration, M' and V being taken along. As in the authors' code, the first
    step of a matrix only measures: the basis comes from its gradient, by an eigendecomposition. (A
    full batch has the same gradient once more, diagonal in its own basis; the second step of a
    single matrix then goes by rounding errors where they exceed eps.) Bases are found in double
    precision; where that fails, the last good one stays and a warning names the parameter.

    What it does not do: one factor for each axis of a tensor, blocks of long sides, factored
    second moments, the curvature of the loss itself (see `KFAC`). Good start: lr=1.6e-2 for FNOs,
    eps=1e-4 with few data.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 3e-3,
        betas: tuple[float, float] = (0.95, 0.95),
        *,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        factor_period: int = 1,
        basis_period: int = 10,
        largest: int = 1024,
    ):
        if not (lr >= 0 and eps >= 0 and weight_decay >= 0 and all(0 <= b < 1 for b in betas)):
            raise ValueError(
                f"SpectralSOAP: lr={lr}, eps={eps} and weight_decay={weight_decay} must not be "
                f"negative, betas={tuple(betas)} from 0 to below 1."
            )
        if min(factor_period, basis_period) < 1 or largest < 0:
            raise ValueError(
                f"SpectralSOAP: factor_period={factor_period} and basis_period={basis_period} must "
                f"be at least 1, largest={largest} not negative."
            )
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay}
        periods = {"factor_period": factor_period, "basis_period": basis_period}
        super().__init__(params, defaults | periods | {"largest": largest})
        self._warned: set[int] = set()

    def _advance(self) -> None:
        for group in self.param_groups:
            plain = []
            for p in group["params"]:
                if p.grad is None:
                    continue
                stack = Matrices.of(p, self.layout(p))
                if stack is None or min(stack.shape[1:]) > group["largest"]:
                    plain.append(p)
                elif "left" not in self.state[p] and "right" not in self.state[p]:
                    self._measure(p, stack, group)
                else:
                    self._move(p, stack, group)
            adamw(
                plain,
                [self.state[p] for p in plain],
                [self.layout(p).is_pair for p in plain],
                **{key: group[key] for key in ("lr", "betas", "eps", "weight_decay")},
            )

    def _measure(self, p: nn.Parameter, stack: Matrices, group: dict) -> None:
        """The first basis, from the first gradient."""
        state, G = self.state[p], stack.join(real(p.grad))
        state |= {"step": 0, "power": torch.zeros_like(G[:, 0, 0].real)}
        state |= {"exp_avg": real(torch.zeros_like(G)), "exp_avg_sq": torch.zeros_like(G.real)}
        for side, n in zip(SIDES, stack.shape[1:], strict=True):
            if n <= group["largest"]:
                eye = torch.eye(n, dtype=G.dtype, device=G.device)
                state[side], state[f"{side}_basis"] = real(torch.zeros_like(eye)), real(eye)
            else:
                log.info("SpectralSOAP: %s keeps the identity on its %s side", self.name(p), side)
        self._absorb(p, G, group)
        self._turn(p, _eigenvectors)

    def _move(self, p: nn.Parameter, stack: Matrices, group: dict) -> None:
        state, G = self.state[p], stack.join(real(p.grad))
        state["step"] += 1
        t, (beta1, beta2) = state["step"], group["betas"]
        bases = [_like(G, state.get(f"{side}_basis")) for side in SIDES]
        rotated = _rotated(G, *bases)
        m, v = state["exp_avg"], state["exp_avg_sq"]
        m.lerp_(real(rotated), 1 - beta1)
        v.mul_(beta2)
        for part in real(rotated).unbind(-1) if G.is_complex() else [rotated]:
            v.addcmul_(part, part, value=(1 - beta2) / (2 if G.is_complex() else 1))
        denominator = v.sqrt().mul_((1 - beta2**t) ** -0.5).add_(group["eps"])
        direction = _rotated_back(_like(G, m) * denominator.reciprocal_(), *bases)
        x = real(p)
        if group["weight_decay"]:
            x.mul_(1 - group["lr"] * group["weight_decay"])
        x.sub_(stack.split(direction), alpha=group["lr"] / (1 - beta1**t))
        if t % group["factor_period"] == 0:
            self._absorb(p, G, group)
        if t % group["basis_period"] == 0:
            self._turn(p, _iterated)

    def _absorb(self, p: nn.Parameter, G: Tensor, group: dict) -> None:
        """One more gradient [K, m, n] in the factors."""
        state, weight = self.state[p], 1 - group["betas"][1]
        t = real(G).flatten(1).square().sum(1)
        power = torch.lerp(state["power"], t, weight)
        shares = power.mean() / power.clamp_min(torch.finfo(power.dtype).eps * power.max())
        G = G * torch.where(power > 0, shares, 0.0).sqrt().view(-1, 1, 1)
        columns, rows = G.movedim(0, 1).flatten(1), G.flatten(0, 1)
        factors = {"left": columns @ columns.mH, "right": rows.mH @ rows}
        factors = {side: factor for side, factor in factors.items() if side in state}
        if not all(bool(factor.isfinite().all()) for factor in factors.values()):
            self._failed(p, "the square of its gradient is not finite and is left out")
            return
        state["power"].copy_(power)
        for side, factor in factors.items():
            state[side].lerp_(real(factor), weight)

    def _turn(self, p: nn.Parameter, find: Search) -> None:
        """New bases; M' and V are taken along."""
        state = self.state[p]
        numbers = state["exp_avg"]
        is_complex = numbers.ndim > state["exp_avg_sq"].ndim
        m = torch.view_as_complex(numbers) if is_complex else numbers
        before = [_like(m, state.get(f"{side}_basis")) for side in SIDES]
        for axis, side in enumerate(SIDES, start=1):
            if side not in state:
                continue
            try:
                basis, order = find(_like(m, state[side]), before[axis - 1])
            except torch.linalg.LinAlgError as error:
                self._failed(p, f"its {side} factor has no eigenvectors ({error})")
                continue
            if not bool(basis.isfinite().all()):
                self._failed(p, f"its {side} factor has no finite eigenvectors")
                continue
            state[f"{side}_basis"] = real(basis.contiguous())  # anew: `before` is the old one
            if order is not None:
                state["exp_avg_sq"].copy_(state["exp_avg_sq"].index_select(axis, order))
        after = [_like(m, state.get(f"{side}_basis")) for side in SIDES]
        numbers.copy_(real(_rotated(_rotated_back(m, *before), *after)))

    def _failed(self, p: nn.Parameter, reason: str) -> None:
        step = self.state[p]["step"]
        text = f"SpectralSOAP: {self.name(p)}, step {step}: {reason}; the last good basis stays."
        if id(p) not in self._warned:
            warnings.warn(text, stacklevel=2)
        self._warned.add(id(p))
        log.warning(text)


def _eigenvectors(P: Tensor, Q: Tensor) -> tuple[Tensor, None]:
    """Of Hermitian P, those of the largest eigenvalues first."""
    return torch.linalg.eigh(wide(P)).eigenvectors.flip(-1).to(Q), None


def _iterated(P: Tensor, Q: Tensor) -> tuple[Tensor, Tensor]:
    """One step of orthogonal iteration, algorithm 4, from Q with its columns in the `order` of
    their Rayleigh quotients: without sorting, columns would exchange places step by step.
    """
    like, P, Q = Q, wide(P), wide(Q)
    image = P @ Q
    order = (Q.conj() * image).sum(0).real.argsort(descending=True, stable=True)
    return torch.linalg.qr(image[:, order]).Q.to(like), order.to(like.device)


def _like(G: Tensor, x: Tensor | None) -> Tensor | None:
    """Real numbers of a state as numbers of the kind of G."""
    return torch.view_as_complex(x) if x is not None and G.is_complex() else x


def _rotated(G: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    G = G if left is None else torch.matmul(left.mH, G)
    return G if right is None else torch.matmul(G, right)


def _rotated_back(G: Tensor, left: Tensor | None, right: Tensor | None) -> Tensor:
    G = G if left is None else torch.matmul(left, G)
    return G if right is None else torch.matmul(G, right.mH)
