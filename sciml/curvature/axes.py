"""Kronecker products of one small matrix for each axis of a tensor."""

from typing import NamedTuple

import torch
from torch import Tensor

from sciml.curvature.kronecker import damped_inverse
from sciml.curvature.packing import packed, unpacked
from sciml.curvature.wide import wide


class AxisTokens(NamedTuple):
    """Rows [T, n] whose mean second moments are the factors of all axes but the last, and gradients
    g [T, o], whose sum is that of the last.
    """

    inputs: list[Tensor]
    g: Tensor

    @classmethod
    def joined(cls, walks: list["AxisTokens"]) -> "AxisTokens":
        return cls(walks[0].inputs, torch.cat([walk.g for walk in walks]))


class AxisKronecker:
    """A_1 (x) .. (x) A_n of a complex tensor [i_1, .., i_n].

        P(G) = G x_1 (A_1 + d_1)^(-1) .. x_n (A_n + d_n)^(-1),    d_j = m_j (lambda / t)^(1/n)
        m_j = tr A_j / i_j,    t = m_1 .. m_n,    lambda = damping t

    with the damping of each factor in proportion to its size, as pi does for two (the rule of
    kfac-jax, K-FAC's section 6.3 for n factors). For interfaces see `Kronecker`.
    """

    def __init__(self, layer):
        self.shape = layer.shape
        like = layer.parameters[0]
        options = {"dtype": like.dtype.to_complex(), "device": like.device}
        self.factors = [packed(torch.zeros(1, n, n, **options)) for n in self.shape]
        self.inverses = [torch.eye(n, **options) for n in self.shape]

    def statistics(self, tokens: AxisTokens) -> list[Tensor]:
        moments = [x.mT @ x.conj() / len(x) for x in tokens.inputs]
        moments.append(tokens.g.mT @ tokens.g.conj())
        return [packed(m[None]) for m in moments]

    def absorb(self, statistics: list[Tensor], weight: float) -> None:
        for factor, new in zip(self.factors, statistics, strict=True):
            factor.lerp_(new.to(factor.dtype), weight)

    def refresh(self, damping: float, floor: float) -> int:
        """`floor` has no meaning here."""
        failures, share = 0, damping ** (1 / len(self.shape))
        for packed_factor, kept, n in zip(self.factors, self.inverses, self.shape, strict=True):
            A = unpacked(wide(packed_factor), n)
            mean = A.diagonal(dim1=-2, dim2=-1).real.mean(-1)
            shift = torch.where(mean > 0, mean * share, 1.0)
            inverse, valid = damped_inverse(A, shift)
            new = inverse[0].to(kept)
            if bool(valid) and bool(new.isfinite().all()):
                kept.copy_(new)
            else:
                failures += 1
        return failures

    def apply(self, G: Tensor) -> Tensor:
        for axis, inverse in enumerate(self.inverses):
            G = torch.tensordot(inverse, G, ([1], [axis])).movedim(0, axis)
        return G

    def state(self) -> dict[str, Tensor]:
        factors = {f"factor_{j}": f for j, f in enumerate(self.factors)}
        inverses = map(torch.view_as_real, self.inverses)
        return factors | {f"inverse_{j}": x for j, x in enumerate(inverses)}

    def load(self, state: dict[str, Tensor]) -> None:
        for name, kept in self.state().items():
            kept.copy_(state[name])
