"""Sources that move: Gaussians on straight lines and circles."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from solvers.grid import Grid

Number = float | Sequence[float] | Sequence[Sequence[float]] | Tensor
Path = Callable[[Tensor], Tensor]  # time [b] -> positions [b, sources, ndim]


class LinearPath:
    """p(t) = start + velocity t.

    Both broadcast to [b, sources, ndim], in length and length / time. On a periodic axis the
    source comes back in, elsewhere it leaves the domain.
    """

    def __init__(self, start: Number, velocity: Number):
        self.start, self.velocity = _tensor(start), _tensor(velocity)

    def __call__(self, time: Tensor) -> Tensor:
        place = self.start.to(time) + self.velocity.to(time) * time.view(-1, 1, 1)
        return place.expand(len(time), *place.shape[1:])


class CircularPath:
    """p(t) = center + radius (cos a, sin a), a = angular_speed t + phase, in the first two axes.

    In one dimension the cosine alone, an oscillation; the third axis stays. `center` broadcasts to
    [b, sources, ndim], the others to [b, sources].
    """

    def __init__(self, center: Number, radius: Number, angular_speed: Number, phase: Number = 0.0):
        self.center, self.radius = _tensor(center), _tensor(radius)
        self.angular_speed, self.phase = _tensor(angular_speed), _tensor(phase)

    def __call__(self, time: Tensor) -> Tensor:
        angle = self.angular_speed.to(time) * time.view(-1, 1) + self.phase.to(time)
        ndim = self.center.shape[-1] if self.center.dim() else 1
        parts = (angle.cos(), angle.sin(), torch.zeros_like(angle))[:ndim]
        offset = self.radius.to(time).unsqueeze(-1) * torch.stack(parts, dim=-1)
        place = self.center.to(time) + offset
        return place.expand(len(time), *place.shape[1:])


class MovingGaussians:
    """S(x, t) = sum_i q_i exp(-|x - p_i(t)|^2 / (2 w_i^2)):  (grid, time [b]) -> [b, 1, *space].

    `path` gives the centres p. `strength` q is the rate at the centre in units of u / time and
    `width` w a length; both broadcast to [b, sources]. On periodic axes the nearest image and its
    two neighbours count, so S is smooth up to exp(-(1.5 length / w)^2 / 2). At walls a
    source is cut off, not reflected. Differentiable in time and in every parameter that is a
    tensor. A width below about 1.5 h is not resolved.
    """

    def __init__(self, path: Path, *, strength: Number = 1.0, width: Number = 0.1):
        self.path, self.strength, self.width = path, _tensor(strength), _tensor(width)
        if not (self.width > 0).all():
            raise ValueError(f"width={width} of a source must be positive.")

    def __call__(self, grid: Grid, time: Tensor) -> Tensor:
        places = self.path(time)
        if places.dim() != 3 or places.shape[-1] != grid.ndim:
            raise ValueError(
                f"the path of the sources has positions {tuple(places.shape)}, expected "
                f"[b, sources, {grid.ndim}] on a grid with {grid.ndim} axes."
            )
        shape = places.shape[:2]
        strength, width = (v.to(time).expand(shape) for v in (self.strength, self.width))
        letters = "xyz"[: grid.ndim]
        factors = []
        for k, axis in enumerate(grid.axes):
            distance = axis.coordinates(time.dtype).to(time.device) - places[..., k, None]
            if axis.is_periodic:
                distance = distance - axis.length * (distance / axis.length).round()
                images = (distance - axis.length, distance, distance + axis.length)
            else:
                images = (distance,)
            factors.append(sum(torch.exp(-0.5 * (d / width[..., None]) ** 2) for d in images))
        pattern = ",".join(f"bs{letter}" for letter in letters)
        return torch.einsum(f"bs,{pattern}->b{letters}", strength, *factors).unsqueeze(1)


def _tensor(value: Number) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
