"""Statistics per channel from one pass over training data, and the map to mean 0, deviation 1."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datasets.schema import Field, Source


@dataclass(frozen=True)
class Moments:
    """Count, mean [c] and sum of squared deviations `m2` [c] in double precision.

    Merging two sets of samples [Chan, Golub & LeVeque 1979, eq. 2.1]:

        d = mean_b - mean_a,   n = n_a + n_b
        mean = mean_a + d n_b / n,   m2 = m2_a + m2_b + d^2 n_a n_b / n

    is exact up to rounding, in any order, and loses no digits to a large mean.
    """

    count: int
    mean: Tensor
    m2: Tensor

    @classmethod
    def of(cls, u: Tensor) -> "Moments":
        """Moments of the channels of u [b, c, *space]."""
        values = u.detach().double().transpose(0, 1).flatten(1)
        mean = values.mean(dim=1)
        m2 = (values - mean[:, None]).square().sum(dim=1)
        return cls(values.shape[1], mean, m2)

    def merge(self, other: "Moments") -> "Moments":
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        m2 = self.m2 + other.m2 + delta.square() * (self.count * other.count / count)
        return Moments(count, mean, m2)

    @property
    def std(self) -> Tensor:
        """Standard deviation of the population, [c]."""
        return (self.m2 / self.count).sqrt()


class Normalizer(nn.Module):
    """(u - mean) / std for each channel of u [b, c, *space]; `inverse` undoes it.

    Mean and std are buffers, so they are saved with the model and move with it. A channel that is
    constant up to rounding gets std 1: it becomes 0, not NaN.
    """

    def __init__(self, mean: Tensor, std: Tensor):
        super().__init__()
        if mean.shape != std.shape or mean.ndim != 1:
            raise ValueError(
                f"mean {tuple(mean.shape)} and std {tuple(std.shape)} must both be [channels]."
            )
        if not (torch.isfinite(mean).all() and torch.isfinite(std).all() and (std >= 0).all()):
            raise ValueError(
                f"mean {mean.tolist()} and std {std.tolist()} must be finite, std >= 0."
            )
        rounding = 1e-7 * mean.abs()
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", torch.where(std > rounding, std, 1.0))

    @classmethod
    def from_moments(cls, moments: Moments) -> "Normalizer":
        return cls(moments.mean, moments.std)

    def forward(self, u: Tensor) -> Tensor:
        v, mean, std = self._like(u)
        return ((v - mean) / std).to(u.dtype)

    def inverse(self, u: Tensor) -> Tensor:
        u, mean, std = self._like(u)
        return u * std + mean

    def _like(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """u, mean and std in one precision, at least single: half a precision has two to three
        digits, and a field whose mean is large would keep none of its own.
        """
        if u.ndim < 2 or u.shape[1] != len(self.mean):
            raise ValueError(
                f"expected [b, {len(self.mean)}, *space], got {tuple(u.shape)}; the normaliser was "
                f"fitted on {len(self.mean)} channels."
            )
        shape = (-1,) + (1,) * (u.ndim - 2)
        dtype = torch.promote_types(u.dtype, torch.float32)
        return u.to(dtype), self.mean.to(dtype).view(shape), self.std.to(dtype).view(shape)


def fit(source: Source, *, batch_size: int = 256) -> tuple[Normalizer, Normalizer]:
    """Normalisers of input and target, from one pass over a source: the training split alone.

    Raises ValueError that names sample and field where a number is NaN or infinite.
    """
    moments: list[Moments | None] = [None, None]
    sides = (source.metadata.input_fields, source.metadata.target_fields)
    for start in range(0, len(source), batch_size):
        indices = range(start, min(start + batch_size, len(source)))
        batch = source.__getitems__(list(indices))
        for side, (u, fields) in enumerate(zip((batch.input, batch.target), sides, strict=True)):
            require_finite(u, fields, indices, source.metadata.name)
            found, before = Moments.of(u), moments[side]
            moments[side] = found if before is None else before.merge(found)
    if moments[0] is None or moments[1] is None:
        raise ValueError(f"{source.metadata.name}: no samples to fit a normaliser on.")
    return Normalizer.from_moments(moments[0]), Normalizer.from_moments(moments[1])


def require_finite(u: Tensor, fields: Sequence[Field], indices: Sequence[int], origin: str) -> None:
    """Raise ValueError naming the first sample and field of u [b, c, *space] that is not finite."""
    finite = torch.isfinite(u).flatten(2).all(dim=2)
    if bool(finite.all()):
        return
    sample, channel = (~finite).nonzero()[0].tolist()
    names = [field.name for field in fields for _ in range(field.components)]
    raise ValueError(
        f"{origin}: sample {indices[sample]}, field {names[channel]!r} holds NaN or infinity; "
        "remove the sample or make it again."
    )
