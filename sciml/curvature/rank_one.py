"""Inverses of Kronecker factors by rank-one updates, without factorising anything."""

import math

import torch
from torch import Tensor
from torch import distributed as dist

from sciml.curvature.parameter_vector import real
from sciml.curvature.tokens import Layer, Tokens


class RankOne:
    """L_k = A_k^(-1) and R_k = B_k^(-1) of K curvature matrices A_k (x) B_k, kept up to date by

        A <- (1 - w) A + w a a^H,
        L <- ( L - w L a (L a)^H / (1 - w + w a^H L a) ) / (1 - w)      [Sherman & Morrison 1950]

    with one vector a per factor and pass [MKOR: Mozaffari et al. 2023, arXiv:2306.01685]: n^2
    operations where an inversion takes n^3. MKOR takes for a the mean of the inputs, which loses
    what they do around it, and is zero for Fourier modes; here a = T^(-1/2) sum_t xi_t a_t with
    random signs xi has the mean square A, and for the gradients likewise.

    Directions that no a has shown for long fade from A; where the largest diagonal entry of L
    exceeds 1 / d, with d what `Kronecker` would add to A, L is mixed with 1 / tr A * n in equal
    parts (their stabiliser, relative here). For interfaces see `Kronecker`; there is nothing to
    refresh, and `floor` acts through d.
    """

    def __init__(self, layer: Layer):
        self.shape, self.has_modes = layer.shape, layer.has_modes
        like = real(layer.parameters[0].detach())
        dtype = like.dtype.to_complex() if layer.is_complex else like.dtype
        K, *sizes = self.shape
        self.inverses = [
            torch.eye(n, dtype=dtype, device=like.device).repeat(K, 1, 1) for n in sizes
        ]
        self.means = [like.new_zeros(K) for _ in sizes]  # tr A / n
        self.started = torch.zeros((), dtype=torch.bool)

    def statistics(self, tokens: Tokens) -> list[Tensor]:
        a, g, scale = tokens.a, tokens.g, tokens.scale
        found, generator = [], _own_generator(a.device)
        for x, s in ((a, 1 / a.shape[1]), (g, scale)):
            s = (
                s
                if isinstance(s, Tensor)
                else torch.full((len(x),), s, device=x.device, dtype=real(x).dtype)
            )
            signs = torch.randint(0, 2, x.shape[:2], device=x.device, generator=generator)
            signs = signs.to(real(x).dtype) * 2 - 1
            sketch = torch.einsum("kt,kti->ki", signs.to(x.dtype), x) * s.sqrt()[:, None]
            mean = s * real(x).square().flatten(1).sum(1) / x.shape[-1]
            found += [real(sketch).contiguous(), mean]
        return found

    def absorb(self, statistics: list[Tensor], weight: float) -> None:
        a, mean_a, g, mean_g = statistics
        weight = min(weight, 0.5)  # of the first pass: the identity that it begins with stays
        processes = dist.get_world_size() if dist.is_initialized() else 1
        for index, (x, mean) in enumerate(((a, mean_a), (g, mean_g))):
            if not self.started:
                size = torch.where(mean > 0, mean, 1.0)
                self.inverses[index] /= size.view(-1, 1, 1)
            self.means[index].lerp_(mean, weight if self.started else 1.0)
            x = x * math.sqrt(processes)  # the mean of independent sketches is too small
            x = torch.view_as_complex(x) if self.inverses[index].is_complex() else x
            self._update(self.inverses[index], x, weight)
        self.started.fill_(True)

    def _update(self, L: Tensor, x: Tensor, weight: float) -> None:
        y = torch.matmul(L, x[..., None])[..., 0]
        inner = (x.conj() * y).sum(-1).real
        factor = weight / (1 - weight + weight * inner)
        outer = y[:, :, None] * y[:, None, :].conj()
        L.sub_(factor.view(-1, 1, 1) * outer).div_(1 - weight)
        L.copy_((L + L.mH) / 2)  # what rounding makes unsymmetric grows by 1 / (1 - w) otherwise

    def refresh(self, damping: float, floor: float) -> int:
        """Mixes in the identity where L has become too large; the number of matrices that are not
        finite, which start anew.
        """
        means = [torch.where(m > 0, m, 0.0) for m in self.means]
        t = means[0] * means[1]
        root = (damping * t + (floor * t.max() if self.has_modes else 0.0)).sqrt()
        pi = torch.where(t > 0, (means[0] / torch.where(t > 0, means[1], 1.0)).sqrt(), 1.0)
        failures = 0
        for L, mean, shift in zip(self.inverses, means, (root * pi, root / pi), strict=True):
            eye = torch.eye(L.shape[-1], dtype=L.dtype, device=L.device)
            size = torch.where(mean > 0, mean, 1.0).view(-1, 1, 1)
            largest = L.diagonal(dim1=-2, dim2=-1).real.amax(-1)
            wrong = ~L.isfinite().flatten(1).all(1)
            large = (largest * shift > 1) & ~wrong
            L.copy_(torch.where(large.view(-1, 1, 1), 0.5 * L + 0.5 * eye / size, L))
            L.copy_(torch.where(wrong.view(-1, 1, 1), eye / size, L))
            failures += int(wrong.sum())
        return failures

    def apply(self, G: Tensor) -> Tensor:
        """L G R^T of matrices [K, i, o]."""
        L, R = self.inverses
        return torch.matmul(torch.matmul(L, G), R.conj())

    def state(self) -> dict[str, Tensor]:
        L, R = map(real, self.inverses)
        return {
            "left": L,
            "right": R,
            "mean_A": self.means[0],
            "mean_B": self.means[1],
            "started": self.started,
        }

    def load(self, state: dict[str, Tensor]) -> None:
        for name, kept in self.state().items():
            kept.copy_(state[name])


def _own_generator(device: torch.device) -> torch.Generator | None:
    """Processes with one seed must draw different signs."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return None
    seed = int(torch.randint(2**62, (1,))) + dist.get_rank()
    return torch.Generator(device).manual_seed(seed)
