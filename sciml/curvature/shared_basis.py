"""Kronecker products with one eigenbasis for all modes, and eigenvalues of each."""

from typing import Literal

import torch
from torch import Tensor

from sciml.curvature.packing import packed, unpacked
from sciml.curvature.parameter_vector import real
from sciml.curvature.tokens import Layer, Tokens
from sciml.curvature.wide import wide

Eigenvalues = Literal["corrected", "scaled"]
JITTERS = (0.0, 1e-12, 1e-8, 1e-4)  # relative, tried in turn where eigenvectors are not found


class SharedBasis:
    """K curvature matrices that are diagonal in one basis Q_A (x) Q_B, of K matrices [i, o]: where
    these are modes. Groups and blocks of other layers, K few, have a basis each.

        P(G)_k = Q_A [ (Q_A^H G_k Q_B^*) / (D_k + lambda_k) ] Q_B^T
        lambda_k = damping mean D_k + floor max_j mean D_j

    Q_A, Q_B are the eigenvectors of the trace-normalised means over modes A = 1/K sum A_k / tr A_k
    and B likewise: raw means would see the lowest modes alone. The traces are running means. With
    "corrected" eigenvalues

        D_k,io = s_k sum_t |Q_A^H a_kt|_i^2 |Q_B^H g_kt|_o^2

    are measured in that basis, so that no diagonal matrix in it is nearer to the Gauss-Newton
    matrix [George et al. 2018, arXiv:1806.03884, EK-FAC]; with "scaled" they are those of the
    products (tr A_k A) (x) (tr B_k B), which costs two numbers for each mode. For a single matrix
    (K = 1) it is EK-FAC, or K-FAC with the damping added to the eigenvalues of the product.

    Of a spectral layer it keeps i^2 + o^2 numbers and a real one for each weight, a quarter of
    what `Kronecker` keeps. Refreshing the basis keeps measured eigenvalues, which fade with the
    moving average. Where no eigenvectors are found the old ones stay.
    """

    def __init__(self, layer: Layer, eigenvalues: Eigenvalues = "corrected"):
        self.shape, self.has_modes = layer.shape, layer.has_modes
        like = real(layer.parameters[0].detach())
        dtype = like.dtype.to_complex() if layer.is_complex else like.dtype
        K, *sizes = self.shape
        M = 1 if self.has_modes else K  # bases
        self.means = [packed(torch.zeros(M, n, n, dtype=dtype, device=like.device)) for n in sizes]
        self.bases = [torch.eye(n, dtype=dtype, device=like.device).repeat(M, 1, 1) for n in sizes]
        self.traces = [like.new_zeros(K) for _ in sizes]
        self.corrected = eigenvalues == "corrected"
        self.D = like.new_zeros(self.shape) if self.corrected else like.new_zeros(0)
        self.spectra = [like.new_zeros(M, n) for n in sizes]  # of the means
        self.shift = like.new_ones(K)
        self.refreshed = False

    def statistics(self, tokens: Tokens) -> list[Tensor]:
        a, g, scale = tokens.a, tokens.g, tokens.scale
        means, traces = [], []
        for x, s, known in ((a, 1 / a.shape[1], self.traces[0]), (g, scale, self.traces[1])):
            trace = s * _square(x).sum((1, 2))
            by = torch.ones_like(trace)
            if self.has_modes:
                by = torch.where(known > 0, known, trace) * len(x)
            rows = x * (s / by).nan_to_num(0, 0, 0).sqrt().view(-1, 1, 1)
            rows = rows.flatten(0, 1)[None] if self.has_modes else rows
            means.append(packed(rows.mT @ rows.conj()))
            traces.append(trace)
        found = [*means, *traces]
        if self.corrected:
            Q = self.bases
            a, g = _square(a @ Q[0].conj()), _square(g @ Q[1].conj())
            scale = scale.view(-1, 1, 1) if isinstance(scale, Tensor) else scale
            found.append(scale * torch.matmul(a.mT, g))
        return found

    def absorb(self, statistics: list[Tensor], weight: float) -> None:
        kept = [*self.means, *self.traces, *([self.D] if self.corrected else [])]
        for old, new in zip(kept, statistics, strict=True):
            old.lerp_(new.to(old.dtype), weight)

    def refresh(self, damping: float, floor: float) -> int:
        """New eigenvectors and damping; the number of bases that kept the old ones."""
        failures = 0
        for index, n in enumerate(self.shape[1:]):
            H = unpacked(self.means[index], n)
            if not self.has_modes:
                trace = self.traces[index]
                H = H / torch.where(trace > 0, trace, 1.0).view(-1, 1, 1)
            found = _eigenvectors(H)
            if found is None:
                failures += 1
                continue
            values, vectors = found
            self.spectra[index].copy_(values.clamp_min(0.0))
            self.bases[index].copy_(vectors)
        if self.corrected and not self.refreshed:  # measured in no basis yet
            self.D.copy_(self._scaled())
        self.refreshed = True
        self.damp(damping, floor)
        return failures

    def damp(self, damping: float, floor: float) -> None:
        """lambda for the present eigenvalues."""
        mean = wide(self.eigenvalues()).mean((1, 2))
        shift = damping * mean + (floor * mean.max() if self.has_modes else 0.0)
        self.shift.copy_(torch.where(shift > 0, shift, 1.0))

    def eigenvalues(self) -> Tensor:
        """D, [K, i, o]."""
        return self.D if self.corrected else self._scaled()

    def _scaled(self) -> Tensor:
        left, right = (
            trace[:, None] * values for trace, values in zip(self.traces, self.spectra, strict=True)
        )
        return left[:, :, None] * right[:, None, :]

    def apply(self, G: Tensor) -> Tensor:
        """P(G) of matrices [K, i, o]."""
        QA, QB = self.bases
        X = torch.matmul(QA.mH, torch.matmul(G, QB.conj()))
        X = X / (self.eigenvalues() + self.shift.view(-1, 1, 1))
        return torch.matmul(QA, torch.matmul(X, QB.mT))

    def state(self) -> dict[str, Tensor]:
        names = (
            "A",
            "B",
            "left",
            "right",
            "tr_A",
            "tr_B",
            "D",
            "spectrum_A",
            "spectrum_B",
            "shift",
        )
        state = dict(zip(names, map(real, self._tensors()), strict=True))
        return state | {"refreshed": torch.tensor(self.refreshed)}

    def load(self, state: dict[str, Tensor]) -> None:
        for kept, name in zip(self._tensors(), state, strict=False):
            real(kept).copy_(state[name])
        self.refreshed = bool(state["refreshed"])

    def _tensors(self) -> list[Tensor]:
        return [*self.means, *self.bases, *self.traces, self.D, *self.spectra, self.shift]


def _eigenvectors(H: Tensor) -> tuple[Tensor, Tensor] | None:
    """In double precision on the processor, where small matrices take the least time."""
    if not H.isfinite().all():
        return None
    H = wide(H.detach().cpu())
    size = H.diagonal(dim1=-2, dim2=-1).real.mean(-1)[:, None, None]
    for jitter in JITTERS:
        try:
            return torch.linalg.eigh(H + jitter * size * torch.eye(H.shape[-1], dtype=H.dtype))
        except torch.linalg.LinAlgError:
            continue
    return None


def _square(x: Tensor) -> Tensor:
    return x.real.square() + x.imag.square() if x.is_complex() else x.square()
