"""Search directions proposed by a small network that learns while it is used."""

import torch
from torch import Tensor, nn

from sciml.curvature.batch_loss import BatchLoss
from sciml.curvature.gauss_newton_product import GaussNewtonProduct
from sciml.curvature.preconditioner import TINY, Jacobi, Preconditioner

FEATURES = 6


class LearnedDirection(Preconditioner):
    """Directions from a network, after the deep conjugate direction method [Kaneda et al. 2023,
    ICML, arXiv:2205.10763], for vectors that are no fields.

        d_j = exp(a_j) z_j + b_j |z| / |p| p_j,    z = Jacobi's direction,    p = the last direction

    (a_j, b_j) come from one perceptron with `hidden` units, the same for all parameters j. It
    sees r_j, z_j and p_j, each over its root mean square in the tensor that j belongs to, the
    logarithm of G_jj + lambda beside its mean, and those of the tensor's share of r and of G. It
    begins as Jacobi: the last layer is zero.

    There is no set of training systems. After d has been made conjugate to the last directions q,
    the exact step along it lowers the squared energy norm of the error by (d.r)^2 / (d.Ad); minus
    its logarithm is the loss. r.q = 0 and q.Ad = 0, so its gradient by the network's output is
    2 Ad / (d.Ad) - 2 r / (d.r), for which the iteration has computed everything: Adam makes a step
    in each iteration of each solve. That costs a few passes through the perceptron, `hidden`
    multiplications for each parameter and feature, and keeps about 3 `hidden` numbers each.

    What it proposes depends on r in a nonlinear way, and changes: conjugate directions must be the
    flexible ones, with at least two stored.
    """

    def __init__(self, hidden: int = 8, lr: float = 3e-3, seed: int = 0):
        if hidden < 1 or not lr > 0:
            raise ValueError(f"hidden={hidden} must be at least 1 and lr={lr} positive.")
        self.hidden, self.lr, self.seed, self.jacobi = hidden, lr, seed, Jacobi()

    def prepare(self) -> None:
        self.jacobi.attach(self.model, self.layout, self.failed)
        like = self.layout.values()
        sizes = torch.tensor(self.layout.sizes, device=like.device)
        self.tensor = torch.repeat_interleave(torch.arange(len(sizes)).to(sizes), sizes)
        self.sizes = sizes.to(like.dtype)
        self.network = nn.Sequential(
            nn.Linear(FEATURES, self.hidden), nn.Tanh(), nn.Linear(self.hidden, 2)
        ).to(like)
        generator = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for p in self.network.parameters():
                p.zero_()
            first = torch.randn(self.hidden, FEATURES, generator=generator) / FEATURES**0.5
            self.network[0].weight.copy_(first)
        self.adam = torch.optim.Adam(self.network.parameters(), lr=self.lr)

    def observe(self, loss: BatchLoss, G: GaussNewtonProduct) -> None:
        self.jacobi.observe(loss, G)
        self._last: Tensor | None = None
        self._asked: tuple[Tensor, Tensor] | None = None

    def apply(self, r: Tensor, damping: float) -> Tensor:
        z = self.jacobi.apply(r, damping)
        p = torch.zeros_like(r) if self._last is None else self._last
        with torch.enable_grad():
            a, b = self.network(self._features(r, z, p, damping)).unbind(-1)
            d = torch.exp(3 * torch.tanh(a / 3)) * z
            if self._last is not None:
                d = d + b * (z.norm() / p.norm().clamp_min(TINY)) * p
        self._asked = (d, r)
        return d.detach()

    def learn(self, d: Tensor, Ad: Tensor) -> None:
        self._last = d
        if self._asked is None:
            return
        (proposed, r), self._asked = self._asked, None
        dr, dAd = torch.dot(d, r), torch.dot(d, Ad)
        slope = 2 * Ad / dAd - 2 * r / dr
        if dr == 0 or not bool(slope.isfinite().all()):
            return
        self.adam.zero_grad()
        with torch.enable_grad():
            proposed.backward(slope)
        self.adam.step()

    def _features(self, r: Tensor, z: Tensor, p: Tensor, damping: float) -> Tensor:
        diagonal = self.jacobi.diagonal + damping
        mean = diagonal.mean()
        share = self._rms(r)
        share = share / share.square().mean().sqrt()
        level = torch.stack([part.mean() for part in diagonal.split(self.layout.sizes)]) / mean
        columns = [x / self._rms(x)[self.tensor] for x in (r, z, p)]
        columns += [torch.log(diagonal / mean + 1e-6) / 3]
        columns += [torch.log(s + 1e-6)[self.tensor] / 3 for s in (share, level)]
        return torch.stack(columns, dim=-1)

    def _rms(self, x: Tensor) -> Tensor:
        """Root mean square of each tensor."""
        norms = torch.stack(torch._foreach_norm(x.split(self.layout.sizes)))
        return (norms / self.sizes.sqrt()).clamp_min(TINY)

    def state(self) -> dict:
        return {
            "jacobi": self.jacobi.state(),
            "network": self.network.state_dict(),
            "adam": self.adam.state_dict(),
        }

    def load(self, state: dict) -> None:
        self.jacobi.load(state["jacobi"])
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])
