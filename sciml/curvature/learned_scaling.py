"""A preconditioner whose scales a small network learns while it is used."""

import torch
from torch import Tensor, nn

from sciml.curvature.batch_loss import BatchLoss
from sciml.curvature.gauss_newton_product import GaussNewtonProduct
from sciml.curvature.kronecker_preconditioner import KroneckerFactored
from sciml.curvature.preconditioner import Diagonalised, Preconditioner

FEATURES = 4


class LearnedScaling(Preconditioner):
    """d = R^T exp(a) (D + lambda)^(-exponent) R r, with R, D and exponent of `base`, and a_j from
    one perceptron for all coordinates j, trained on the systems that are solved.

    It sees log (D_j + lambda) beside the mean and beside the mean logarithm in its tensor, and the
    logarithms of the tensor's mean and of lambda; it has `hidden` units and begins with a = 0. What
    is learned is what the deep conjugate direction method learns [Kaneda et al. 2023, ICML,
    arXiv:2205.10763]: a direction that, made conjugate to the last ones q, leaves a small error.
    The exact step s = (d.r) / (d.Ad) along it lowers the quadratic model by (d.r)^2 / (2 d.Ad),
    minus which is the loss. As r.q = 0 and q.Ad = 0, its gradient by the direction is

        s^2 Ad - s r

    for which the iteration has computed everything: there are no training data. The sum over a
    solve is one step of Adam.

    What differs from that paper, and why: vectors of parameters are no fields, so there is no
    convolution; and the network does not see r. One that saw r and the last direction, or that
    learned within a solve, made directions that depend on r in a nonlinear way, and in training an
    FNO for Burgers' equation needed more iterations than its base. This one, symmetric within a
    solve, needs a few per cent fewer than `KroneckerFactored`; on `Jacobi` it can need more, as its
    loss looks one iteration ahead. Two stored directions keep the iteration sound whatever it says.
    """

    def __init__(
        self, base: Diagonalised | None = None, hidden: int = 16, lr: float = 0.03, seed: int = 0
    ):
        if hidden < 1 or not lr > 0:
            raise ValueError(f"hidden={hidden} must be at least 1 and lr={lr} positive.")
        self.base = base if base is not None else KroneckerFactored()
        self.hidden, self.lr, self.seed = hidden, lr, seed

    def prepare(self) -> None:
        self.base.attach(self.model, self.layout, self.failed)
        like = self.layout.values()
        sizes = torch.tensor(self.layout.sizes, device=like.device)
        self.tensor = torch.repeat_interleave(torch.arange(len(sizes)).to(sizes), sizes)
        self.network = nn.Sequential(
            nn.Linear(FEATURES, self.hidden), nn.Tanh(), nn.Linear(self.hidden, 1)
        ).to(like)
        generator = torch.Generator().manual_seed(self.seed)
        first = torch.randn(self.hidden, FEATURES, generator=generator) / FEATURES**0.5
        with torch.no_grad():
            for p in self.network.parameters():
                p.zero_()
            self.network[0].weight.copy_(first)
        self.adam = torch.optim.Adam(self.network.parameters(), lr=self.lr)
        self._forget()

    def _forget(self) -> None:
        self._exponents: Tensor | None = None
        self._asked: tuple[Tensor, Tensor] | None = None

    def renew(self, loss: BatchLoss) -> None:
        self.base.renew(loss)

    def observe(self, G: GaussNewtonProduct) -> None:
        self.base.observe(G)

    def apply(self, r: Tensor, damping: float) -> Tensor:
        if self._exponents is None:
            with torch.enable_grad():
                a = self.network(self._features(damping)).squeeze(-1)
                self._exponents = 3 * torch.tanh(a / 3)
            self._scale = self._exponents.detach().exp() * self.base.scale(damping)
            self._slope = torch.zeros_like(r)
        scaled = self._scale * self.base.rotate(r)
        self._asked = (r, scaled)
        return self.base.rotate_back(scaled)

    def learn(self, d: Tensor, Ad: Tensor) -> None:
        if self._asked is None:
            return
        (r, scaled), self._asked = self._asked, None
        step = torch.dot(d, r) / torch.dot(d, Ad)
        self._slope += self.base.rotate(step * (step * Ad - r)) * scaled

    def finish(self) -> None:
        """One step of Adam."""
        if self._exponents is not None and bool(self._slope.any()):
            if bool(self._slope.isfinite().all()):
                self.adam.zero_grad()
                self._exponents.backward(self._slope)
                self.adam.step()
            else:
                self.failed("learned scaling", "a lesson is not finite and is left out")
        self._forget()

    def _features(self, damping: float) -> Tensor:
        D = self.base.damped(damping)
        sizes, mean = self.layout.sizes, D.mean()
        own = torch.stack([part.mean() for part in D.split(sizes)])
        middle = torch.stack([part.log().mean() for part in D.split(sizes)])
        columns = [
            torch.log(D / mean),
            D.log() - middle[self.tensor],
            torch.log(own / mean)[self.tensor],
            torch.log10(mean / self.base.least(damping)).expand_as(D),
        ]
        return torch.stack(columns, dim=-1) / 3

    def state(self) -> dict:
        return {
            "base": self.base.state(),
            "network": self.network.state_dict(),
            "adam": self.adam.state_dict(),
        }

    def load(self, state: dict) -> None:
        self.base.load(state["base"])
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])
