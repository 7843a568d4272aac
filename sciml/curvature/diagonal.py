"""The diagonal of the Gauss-Newton matrix, for parameters of which no layer is known."""

import torch
from torch import Tensor, nn

from sciml.curvature.parameter_vector import real


class Diagonal:
    """d_j = G_jj of one tensor, and P(g) = g / (d + damping mean d + floor max d).

    A draw x of gradients with the covariance G has E x_j^2 = G_jj: one backward pass is an
    unbiased, if noisy, sample of the whole diagonal [Bekas et al. 2007; Martens et al. 2012].
    """

    def __init__(self, parameter: nn.Parameter):
        self.mean = torch.zeros_like(real(parameter.detach()))

    def absorb(self, square: Tensor, weight: float) -> None:
        self.mean.lerp_(square.view_as(self.mean), weight)

    def apply(self, g: Tensor, damping: float, floor: float) -> Tensor:
        shift = damping * self.mean.mean() + floor * self.mean.max()
        shift = torch.where(shift > 0, shift, 1.0)  # nothing was seen yet: the identity
        return g / (self.mean + shift)
