"""Stacks of Kronecker products A (x) B: their running means and damped inverses."""

import torch
from torch import Tensor

from sciml.curvature.packing import packed, unpacked
from sciml.curvature.parameter_vector import real
from sciml.curvature.tokens import Layer, Tokens
from sciml.curvature.wide import wide

ATTEMPTS = 6  # tenfold increases of the damping before a matrix counts as not invertible


class Kronecker:
    """K curvature matrices A_k (x) B_k of K weight matrices [i, o].

        P(G)_k = (A_k + pi_k lambda_k^1/2)^(-1) G_k (B_k + lambda_k^1/2 / pi_k)^(-T)
        pi_k = ((tr A_k / i) / (tr B_k / o))^(1/2)
        lambda_k = damping t_k + floor max_j t_j,    t_k = (tr A_k / i) (tr B_k / o)

    [Martens & Grosse 2015, arXiv:1503.05671, section 6.3 for pi]. t_k is the mean eigenvalue of
    a block, so damping is relative to each and does not depend on units. The floor, of stacks of
    modes alone, is relative to the largest: without it modes of little power would move as fast as
    the others. For Hermitian B, B^(-T) is the conjugate of the inverse.

    A and B are kept packed, inverses whole. Refreshing takes place in double precision by
    Cholesky's method; where that fails tenfold damping is tried, and a matrix that has no inverse
    then keeps the one it had.
    """

    def __init__(self, layer: Layer):
        self.shape, self.has_modes = layer.shape, layer.has_modes
        like = real(layer.parameters[0].detach())
        dtype = like.dtype.to_complex() if layer.is_complex else like.dtype
        K, *sizes = self.shape
        self.factors = [
            packed(torch.zeros(K, n, n, dtype=dtype, device=like.device)) for n in sizes
        ]
        self.inverses = [
            torch.eye(n, dtype=dtype, device=like.device).repeat(K, 1, 1) for n in sizes
        ]

    def statistics(self, tokens: Tokens) -> list[Tensor]:
        """Real tensors whose mean over processes and time is kept."""
        return [packed(factor) for factor in tokens.factors()]

    def absorb(self, statistics: list[Tensor], weight: float) -> None:
        """Moving averages, the new values with that weight."""
        for factor, new in zip(self.factors, statistics, strict=True):
            factor.lerp_(new.to(factor.dtype), weight)

    def damping(self, damping: float, floor: float) -> tuple[list[Tensor], Tensor, Tensor]:
        """Factors in double precision, lambda [K] and pi [K]."""
        A, B = (unpacked(wide(f), n) for f, n in zip(self.factors, self.shape[1:], strict=True))
        means = [F.diagonal(dim1=-2, dim2=-1).real.mean(-1).clamp_min(0.0) for F in (A, B)]
        t = means[0] * means[1]
        shift = damping * t + (floor * t.max() if self.has_modes else 0.0)
        known = t > 0
        pi = torch.where(known, (means[0] / torch.where(known, means[1], 1.0)).sqrt(), 1.0)
        return [A, B], shift, pi

    def refresh(self, damping: float, floor: float) -> int:
        """New inverses; the number of matrices that kept the old one."""
        (A, B), shift, pi = self.damping(damping, floor)
        root = shift.sqrt()
        root = torch.where(root > 0, root, 1.0)  # nothing was seen yet: the identity
        failures = 0
        for index, (F, s) in enumerate(((A, root * pi), (B, root / pi))):
            inverse, valid = damped_inverse(F, s)
            if index == 1:
                inverse = inverse.conj()
            kept = self.inverses[index]
            new, valid = inverse.to(kept), valid.to(kept.device)
            valid &= new.isfinite().flatten(1).all(dim=1)
            if count := int((~valid).sum()):
                new = torch.where(valid.view(-1, 1, 1), new, kept)
            kept.copy_(new)  # in one layout for ever
            failures += count
        return failures

    def apply(self, G: Tensor) -> Tensor:
        """P(G) of matrices [K, i, o]."""
        left, right = self.inverses
        if G.stride(-2) == 1:  # a transpose: the result is one too, as the weights then are
            return torch.matmul(right.mT, torch.matmul(G.mT, left.mT)).mT
        return torch.matmul(torch.matmul(left, G), right)

    def state(self) -> dict[str, Tensor]:
        names = ("A", "B", "left", "right")
        return dict(zip(names, map(real, (*self.factors, *self.inverses)), strict=True))

    def load(self, state: dict[str, Tensor]) -> None:
        for kept, name in zip((*self.factors, *self.inverses), state, strict=True):
            real(kept).copy_(state[name])


def damped_inverse(F: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """(F_k + shift_k)^(-1) of Hermitian F [K, n, n], and where it was found, [K]."""
    finite = F.isfinite().flatten(1).all(dim=1) & shift.isfinite()
    eye = torch.eye(F.shape[-1], dtype=F.dtype, device=F.device)
    if not finite.all():
        F = torch.where(finite.view(-1, 1, 1), F, eye)
        shift = torch.where(finite, shift, 1.0)
    for _ in range(ATTEMPTS):
        L, info = torch.linalg.cholesky_ex(F + shift.view(-1, 1, 1) * eye)
        if not (info > 0).any():
            break
        shift = torch.where(info > 0, 10 * shift, shift)
    valid = finite & (info == 0)
    if not valid.all():
        L = torch.where(valid.view(-1, 1, 1), L, eye)
    return torch.cholesky_inverse(L), valid
