"""The parameters of any module as real numbers in double precision."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class RealView(nn.Module):
    """`module` as a function of a real vector theta [n], for libraries that know real vectors of
    one type only.

        theta = (w, ...) for real weights w,    (Re w, Im w) number by number for complex ones

    Its own parameters, `parts`, are copies in float64, [..., 2] of complex weights, in the order of
    `names`; those of `module` that are not trained are not among them. A call passes `parts` to
    `module` in the types of its weights, which stay as they are. The gradient by theta is then
    (d/d Re w, d/d Im w), what PyTorch holds as one complex number, and second derivatives are
    those of a real function. Weights that are stored as pairs of real numbers, as those of
    `layers.SpectralConv`, are left as they are: they give the same theta.
    """

    def __init__(self, module: nn.Module):
        super().__init__()
        trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError(f"{type(module).__name__} has no parameters to train.")
        self.names = list(trained)
        self._module = (module,)  # in a tuple, so that its parameters are not the view's
        self._types = [p.dtype for p in trained.values()]
        self.parts = nn.ParameterList(
            as_real(p.detach()).to(torch.float64, copy=True) for p in trained.values()
        )

    def forward(self, *arguments: Any) -> Any:
        given = {
            name: _like(part, dtype)
            for name, part, dtype in zip(self.names, self.parts, self._types, strict=True)
        }
        return functional_call(self._module[0], given, arguments)

    def at(self, theta: Tensor, *arguments: Any) -> Any:
        """`module` with the weights theta [n]."""
        given = {f"parts.{i}": part for i, part in enumerate(self.split(theta))}
        return functional_call(self, given, arguments)

    @property
    def sizes(self) -> list[int]:
        """Real numbers of each tensor."""
        return [part.numel() for part in self.parts]

    @property
    def epsilon(self) -> float:
        """Of the coarsest type of weights: how exactly the module computes."""
        return max(torch.finfo(dtype).eps for dtype in self._types)

    def theta(self) -> Tensor:
        """The weights of `module` at the time the view was made, a copy [n]."""
        return self.join([part.detach() for part in self.parts])

    def join(self, tensors: list[Tensor]) -> Tensor:
        """Tensors like `parts` as one vector."""
        return torch.cat([tensor.reshape(-1) for tensor in tensors])

    def split(self, vector: Tensor) -> list[Tensor]:
        """The inverse of `join`."""
        pieces = zip(vector.split(self.sizes), self.parts, strict=True)
        return [piece.view_as(part) for piece, part in pieces]


def as_real(x: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones."""
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def _like(part: Tensor, dtype: torch.dtype) -> Tensor:
    real = part.to(dtype.to_real())
    return torch.view_as_complex(real.contiguous()) if dtype.is_complex else real
