"""Parameters of a model as one real vector."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class ParameterVector:
    """Where each of the parameters lies in a vector [n]; complex numbers are pairs of real ones."""

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self.parameters = list(parameters)
        self.sizes = [real(p).numel() for p in self.parameters]

    def __len__(self) -> int:
        return sum(self.sizes)

    def join(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Tensors like the parameters, or their real numbers, as a vector; None is zeros."""
        parts = [
            torch.zeros_like(real(p)) if t is None else real(t)
            for p, t in zip(self.parameters, tensors, strict=True)
        ]
        return torch.cat([part.reshape(-1) for part in parts])

    def split(self, vector: Tensor) -> list[Tensor]:
        """The inverse of `join`: tensors of the shapes and types of the parameters, copies because
        pairs that are to be complex must not begin at an odd place.
        """
        parts = []
        for p, part in zip(self.parameters, vector.split(self.sizes), strict=True):
            part = part.to(real(p).dtype, copy=True).view(real(p).shape)
            parts.append(torch.view_as_complex(part) if p.is_complex() else part)
        return parts

    def values(self) -> Tensor:
        """The parameters themselves, a copy."""
        return self.join([p.detach() for p in self.parameters])

    @torch.no_grad()
    def assign(self, vector: Tensor) -> None:
        """Make these numbers the parameters. Autograd does not notice: graphs of before are valid
        again once the old numbers are back.
        """
        for p, part in zip(self.parameters, self.split(vector), strict=True):
            p.data.copy_(part)


def real(x: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
