"""The loss on planes through the weights."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sciml.curvature.operators import SampledLoss
from sciml.curvature.real_view import RealView


class Plane(NamedTuple):
    """L(theta + x_i a + y_j b), [i][j], for directions a, b and coordinates x, y; None where it is
    not finite.
    """

    x: list[float]
    y: list[float]
    loss: list[list[float | None]]


def plane(
    loss: SampledLoss, a: Tensor, b: Tensor, extents: tuple[float, float], points: int
) -> Plane:
    """`points` odd: the one in the middle is theta. Coordinates go from -extent to extent."""
    theta = loss.view.theta()
    a, b = (direction.to(theta) for direction in (a, b))
    x, y = (torch.linspace(-e, e, points, dtype=torch.float64).tolist() for e in extents)
    values = [[loss.value(theta + i * a + j * b) for j in y] for i in x]
    return Plane(x, y, [[v if math.isfinite(v) else None for v in row] for row in values])


def filter_normalised(view: RealView, seed: int) -> Tensor:
    """A random direction [n] in units of the weights [Li et al. 2018, arXiv:1712.09913, section 4].

        d_j <- d_j |w_j| / |d_j|    for each filter w_j, 0 for vectors such as biases

    A filter is a slice of a tensor along its first axis: all weights of an output channel of
    `nn.Linear` and `nn.ConvNd`, one wavenumber of a spectral weight [*modes, in, out, 2].
    """
    generator = torch.Generator().manual_seed(seed)
    pieces = []
    for part in view.parts:
        w = part.detach()
        d = torch.randn(w.shape, generator=generator, dtype=w.dtype).to(w.device)
        if w.ndim < 2:
            pieces.append(torch.zeros_like(w))
            continue
        sizes = [x.flatten(1).norm(dim=1) for x in (w, d)]
        scale = sizes[0] / sizes[1]
        pieces.append(d * scale.view(-1, *[1] * (w.ndim - 1)))
    return view.join(pieces)
