"""Kronecker factors as a preconditioner of conjugate directions."""

import torch
from torch import Tensor, nn

from sciml.curvature.batch_loss import BatchLoss
from sciml.curvature.blocked import BLOCK_SIZE
from sciml.curvature.capture import Capture
from sciml.curvature.coverage import cover
from sciml.curvature.factors import CoreLayer
from sciml.curvature.parameter_vector import real
from sciml.curvature.preconditioner import DECAY, Diagonalised
from sciml.curvature.processes import averaged
from sciml.curvature.tokens import Call, Layer
from sciml.curvature.wide import wide


class Eigenbasis:
    """The eigenvectors of A_k (x) B_k, K Kronecker products of averages over time."""

    def __init__(self, layer: Layer):
        like = layer.parameters[0]
        dtype = like.dtype.to_complex() if layer.is_complex else like.dtype
        K, *sizes = layer.shape
        self.means = [torch.zeros(K, n, n, dtype=dtype, device=like.device) for n in sizes]
        self.bases = [torch.eye(n, dtype=dtype, device=like.device).repeat(K, 1, 1) for n in sizes]

    def absorb(self, factors: list[Tensor], weight: float) -> bool:
        """New averages and eigenvectors; whether those were found, otherwise the old ones stay."""
        for mean, new in zip(self.means, factors, strict=True):
            mean.lerp_(new.to(mean.dtype), weight)
        return self.refresh()

    def refresh(self) -> bool:
        """In double precision and on the processor, where small matrices take the least time."""
        try:
            for j, mean in enumerate(self.means):
                self.bases[j] = torch.linalg.eigh(wide(mean.cpu())).eigenvectors.to(mean)
        except torch.linalg.LinAlgError:
            return False
        return True

    def forward(self, G: Tensor) -> Tensor:
        """Q_A^H G conj(Q_B) of matrices [K, i, o]."""
        Q_A, Q_B = self.bases
        return Q_A.mH @ G @ Q_B.conj()

    def back(self, G: Tensor) -> Tensor:
        """Q_A G Q_B^T."""
        Q_A, Q_B = self.bases
        return Q_A @ G @ Q_B.mT


class KroneckerFactored(Diagonalised):
    """r / (D + lambda) in the eigenbasis of the Kronecker factors of each layer that `cover` finds,
    spectral convolutions mode by mode; in that of the unit vectors for all other parameters.

        P(G_k) = Q_A [ (Q_A^H G_k conj(Q_B)) / (D_k + lambda) ] Q_B^T,    A_k (x) B_k as in `KFAC`

    D is the diagonal of the Gauss-Newton matrix in that basis [George et al. 2018,
    arXiv:1806.03884]; products of the eigenvalues of A and B are off by a factor where the points
    that a layer acts on depend on each other. As lambda is that of the system, P is its inverse
    where the blocks are those of G, for every lambda anew.

    It saves iterations of solves that are broken off, with a small lambda. To solve a system with a
    large one to many digits takes more of them than without: G has few eigenvalues above lambda,
    and P spreads those that lie together at it.

    Every `period` steps one forward and one backward pass through the whole batch renew the
    factors, and D begins anew. Cores of Tucker weights and layers never called as a module are
    among the other parameters.
    """

    def __init__(self, period: int = 5, draws: int = 4):
        if period < 1:
            raise ValueError(f"period={period} must be at least 1.")
        super().__init__(1.0, draws)
        self.period, self.steps, self.passes = period, 0, 0

    def prepare(self) -> None:
        super().prepare()
        place = {id(p): j for j, p in enumerate(self.layout.parameters)}
        coverage = cover(self.model, block_size=BLOCK_SIZE)
        if coverage.share < 0.5:
            self.failed("preconditioner", f"{coverage.summary()}; less than half, expect little")
        self.layers = {
            name: layer
            for name, layer in coverage.layers.items()
            if not isinstance(layer, CoreLayer) and all(id(p) in place for p in layer.parameters)
        }
        self.places = {n: [place[id(p)] for p in x.parameters] for n, x in self.layers.items()}
        self.bases = {name: Eigenbasis(layer) for name, layer in self.layers.items()}

    def renew(self, loss: BatchLoss) -> None:
        self.steps += 1
        if (self.steps - 1) % self.period:
            return
        self.count = 0
        modules = [m for layer in self.layers.values() for m in layer.watched]
        with torch.enable_grad():
            with loss.replayed(), Capture(modules, self.model) as capture:
                expansion = loss.objective(None)
            called = {n for n, x in self.layers.items() if any(map(capture.called, x.watched))}
            if not self.passes:
                for name in self.layers.keys() - called:
                    self._drop(name)
                    self.failed(name, "it is never called as a module, its diagonal takes over")
            if not called:
                return
            ((calls, _),) = capture.gradients(expansion, "monte_carlo", [])
        self.passes += 1
        weight = max(1 - DECAY, 1 / self.passes)
        for name, basis in self.bases.items():
            if name not in called:  # a branch: what was found before stays
                continue
            found = [averaged(f.contiguous()) for f in self._factors(name, calls)]
            if not all(bool(f.isfinite().all()) for f in found):
                self.failed(name, "its factors are not finite; those of before stay")
            elif not basis.absorb(found, weight):
                self.failed(name, "its eigenvectors are not found; those of before stay")

    def _factors(self, name: str, calls: dict[nn.Module, list[Call]]) -> tuple[Tensor, Tensor]:
        layer = self.layers[name]
        return layer.tokens(layer.seen(calls)).factors()

    def _drop(self, name: str) -> None:
        del self.layers[name], self.bases[name], self.places[name]

    def rotate(self, v: Tensor) -> Tensor:
        return self._turned(v, Eigenbasis.forward)

    def rotate_back(self, v: Tensor) -> Tensor:
        return self._turned(v, Eigenbasis.back)

    def _turned(self, v: Tensor, turn) -> Tensor:
        tensors = [real(t) for t in self.layout.split(v)]
        for name, layer in self.layers.items():
            matrices = layer.join([tensors[j] for j in self.places[name]])
            found = layer.split(turn(self.bases[name], matrices))
            for j, t in zip(self.places[name], found, strict=True):
                tensors[j] = t
        return torch.cat([t.reshape(-1) for t in tensors])

    def state(self) -> dict:
        return super().state() | {
            "steps": self.steps,
            "passes": self.passes,
            "factors": {n: [real(m) for m in basis.means] for n, basis in self.bases.items()},
        }

    def load(self, state: dict) -> None:
        super().load(state)
        self.steps, self.passes = state["steps"], state["passes"]
        for name in [n for n in self.layers if n not in state["factors"]]:
            self._drop(name)
        for name, basis in self.bases.items():
            for mean, stored in zip(basis.means, state["factors"][name], strict=True):
                real(mean).copy_(stored)
            basis.refresh()
