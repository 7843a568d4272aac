"""A Gaussian process over points of a cube."""

import gpytorch
import torch
from torch import Tensor

NOISE = 1e-4  # least variance of the noise, of standardised values


class Matern(gpytorch.models.ExactGP):
    """f ~ N(0, k) with k a Matern-5/2 kernel with a length for each of `dimension` axes and a
    variance, seen with noise; exact, by Cholesky factors, in double precision.
    """

    def __init__(self, dimension: int):
        constraint = gpytorch.constraints.GreaterThan(NOISE)
        likelihood = gpytorch.likelihoods.GaussianLikelihood(noise_constraint=constraint)
        super().__init__(None, None, likelihood)
        kernel = gpytorch.kernels.MaternKernel(nu=2.5, ard_num_dims=dimension)
        self.mean, self.kernel = gpytorch.means.ZeroMean(), gpytorch.kernels.ScaleKernel(kernel)
        self.double()

    def forward(self, x: Tensor) -> gpytorch.distributions.MultivariateNormal:
        return gpytorch.distributions.MultivariateNormal(self.mean(x), self.kernel(x))

    def condition(self, x: Tensor, y: Tensor) -> None:
        self.set_train_data(x, y, strict=False)

    def learn(self, steps: int) -> None:
        """Climb the marginal likelihood."""
        self.train()
        likelihood = gpytorch.mlls.ExactMarginalLogLikelihood(self.likelihood, self)
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        with gpytorch.settings.max_cholesky_size(10_000), torch.enable_grad():
            for _ in range(steps):
                optimizer.zero_grad()
                loss = -likelihood(self(*self.train_inputs), self.train_targets)
                loss.backward()
                optimizer.step()

    @torch.no_grad()
    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of f at x [n, d], without the noise."""
        self.eval()
        with gpytorch.settings.max_cholesky_size(10_000):
            found = self(x)
        return found.mean, found.variance.clamp_min(0).sqrt()
