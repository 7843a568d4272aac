"""Momentum with orthogonal steps, for complex spectral weights too."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from sciml.curvature.adamw import adamw
from sciml.curvature.matrices import Matrices
from sciml.curvature.pairs import PairedOptimizer
from sciml.curvature.parameter_vector import real

Polynomial = Literal["fast", "convergent"]
COEFFICIENTS = {  # a, b, c of x <- a x + b x^3 + c x^5 for all singular values x
    "fast": (3.4445, -4.7750, 2.0315),  # Jordan et al.
    "convergent": (15 / 8, -10 / 8, 3 / 8),  # 1 is a fixed point of third order
}
RMS = 0.2  # of a step over lr, entry by entry, as AdamW's


class SpectralMuon(PairedOptimizer):
    """Muon [Jordan et al. 2024, https://kellerjordan.github.io/posts/muon] with the length of Liu
    et al. 2025, arXiv:2502.16982: matrices step along the orthogonal factor of their momentum.

        M <- momentum M + (1 - momentum) G
        W <- (1 - lr weight_decay) W - lr 0.2 max(in, out)^(1/2) U V^H,    U S V^H = N

    where N = momentum M + (1 - momentum) G with `nesterov`, else M. U V^H is found by `iterations`
    of Newton and Schulz (`orthogonal`), its entries then have the rms modulus 0.2. A spectral
    weight is a stack of complex matrices [in, out], one for each mode, each orthogonal by itself:
    modes of little power move as far as the strong ones. Steps follow when phases of modes turn,
    and when channels are mixed by unitary matrices.

    What counts as a matrix says `Matrices`: linear maps, kernels of convolutions as [out, rest],
    the factors and cores of factorised weights. All else gets AdamW with `betas` and `eps` at the
    rate `adamw_lr` * lr. Works in the precision of the parameters, not in bfloat16. What it does
    not do: leave the first and last layers to AdamW, as is usual for language models. Good start:
    lr=2e-2 to 4e-2 for FNOs.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 2e-2,
        momentum: float = 0.95,
        *,
        nesterov: bool = True,
        weight_decay: float = 0.0,
        polynomial: Polynomial = "fast",
        iterations: int = 5,
        adamw_lr: float = 0.2,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ):
        if not (lr >= 0 and weight_decay >= 0 and adamw_lr >= 0 and eps >= 0):
            raise ValueError(
                f"SpectralMuon: lr={lr}, weight_decay={weight_decay}, adamw_lr={adamw_lr} and "
                f"eps={eps} must not be negative."
            )
        if not all(0 <= b < 1 for b in (momentum, *betas)):
            raise ValueError(
                f"SpectralMuon: momentum={momentum} and betas={tuple(betas)} must be from 0 to "
                "below 1."
            )
        if polynomial not in COEFFICIENTS or iterations < 1:
            raise ValueError(
                f"SpectralMuon: polynomial={polynomial} must be one of {', '.join(COEFFICIENTS)} "
                f"and iterations={iterations} at least 1."
            )
        defaults = {"lr": lr, "momentum": momentum, "nesterov": nesterov}
        defaults |= {"weight_decay": weight_decay, "adamw_lr": adamw_lr, "betas": tuple(betas)}
        defaults |= {"polynomial": polynomial, "iterations": iterations, "eps": eps}
        super().__init__(params, defaults)

    def _advance(self) -> None:
        for group in self.param_groups:
            plain = []
            for p in group["params"]:
                if p.grad is None:
                    continue
                stack = Matrices.of(p, self.layout(p))
                if stack is None:
                    plain.append(p)
                else:
                    self._move(p, stack, group)
            adamw(
                plain,
                [self.state[p] for p in plain],
                [self.layout(p).is_pair for p in plain],
                lr=group["lr"] * group["adamw_lr"],
                **{key: group[key] for key in ("betas", "eps", "weight_decay")},
            )

    def _move(self, p: nn.Parameter, stack: Matrices, group: dict) -> None:
        state, x, g = self.state[p], real(p), real(p.grad)
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(x)
        m = state["momentum"].lerp_(g, 1 - group["momentum"])
        n = g.lerp(m, group["momentum"]) if group["nesterov"] else m
        U = orthogonal(stack.join(n), group["polynomial"], group["iterations"])
        if group["weight_decay"]:
            x.mul_(1 - group["lr"] * group["weight_decay"])
        x.sub_(stack.split(U), alpha=group["lr"] * RMS * max(stack.shape[1:]) ** 0.5)


def orthogonal(X: Tensor, polynomial: Polynomial = "fast", iterations: int = 5) -> Tensor:
    """The factors U V^H of matrices X = U S V^H [K, m, n], real or complex, about.

        X <- X / |X|_F,    X <- a X + b (X X^H) X + c (X X^H)^2 X

    so often as `iterations` says. "convergent" coefficients end at singular values of 1, in the
    end with third order, but let small ones grow by 15/8 a step only. "fast" ones let them grow by
    3.44 and end between 0.68 and 1.21: after 5 steps so do all that began above 2e-3 |X|_F.
    Singular values of 0 stay 0.
    """
    a, b, c = COEFFICIENTS[polynomial]
    parts = real(X).flatten(1)  # norms of complex tensors take a hundred times as long
    largest = parts.abs().amax(1, keepdim=True)  # the squares of tiny numbers would be zero
    parts = parts / torch.where(largest > 0, largest, 1.0)
    parts = parts / torch.linalg.vector_norm(parts, dim=1, keepdim=True).clamp_min(1.0)
    parts = parts.view(real(X).shape)
    X = torch.view_as_complex(parts) if X.is_complex() else parts
    tall = X.shape[-2] > X.shape[-1]
    X = X.mH if tall else X
    for _ in range(iterations):
        A = torch.matmul(X, X.mH)
        X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return X.mH if tall else X
