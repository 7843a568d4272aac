"""A layer's gradient as a sum of outer products: what all Kronecker factors are made of."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Call(NamedTuple):
    """One call of a module: its arguments, and the gradient of its output or zeros."""

    module: nn.Module
    arguments: tuple
    gradient: Tensor


class Tokens(NamedTuple):
    """The gradients G_k = sum_t a_kt g_kt^T of K matrices [i, o], from a [K, T, i] and g [K, T, o],
    complex for complex weights (a is then conjugate to what the layer multiplied). `scale`, [K] or
    1, multiplies what second moments of g say about real and imaginary parts; see `SpectralLayer`.
    """

    a: Tensor
    g: Tensor
    scale: Tensor | float = 1.0

    @classmethod
    def joined(cls, walks: list["Tokens"]) -> "Tokens":
        """Of several walks back over one pass: the same inputs with other gradients."""
        if len(walks) == 1:
            return walks[0]
        a, g = (torch.cat(parts, dim=1) for parts in zip(*((w.a, w.g) for w in walks), strict=True))
        return cls(a, g, walks[0].scale)

    def factors(self) -> tuple[Tensor, Tensor]:
        """A_k = 1/T sum_t a a^H and B_k = scale_k sum_t g g^H, Hermitian."""
        A = torch.matmul(self.a.mT, self.a.conj()) / self.a.shape[1]
        scale = self.scale.view(-1, 1, 1) if isinstance(self.scale, Tensor) else self.scale
        return A, scale * torch.matmul(self.g.mT, self.g.conj())


class Layer(ABC):
    """A module, or a part of one, whose parameters are K matrices [i, o] in another order.

    `parameters` are the tensors it speaks for, real, pairs of real numbers if `is_complex`;
    `modules` those whose calls it wants to see, by role.
    """

    kind: str
    is_complex = False
    has_modes = False  # K counts modes of very different size

    parameters: list[nn.Parameter]
    modules: dict[str, list[nn.Module]]
    shape: tuple[int, int, int]  # K, i, o

    @property
    def watched(self) -> list[nn.Module]:
        """All of `modules`."""
        return [module for modules in self.modules.values() for module in modules]

    def seen(self, calls: dict[nn.Module, list[Call]]) -> dict[str, list[Call]]:
        """The calls of its modules, by role."""
        return {
            role: [call for module in modules for call in calls[module]]
            for role, modules in self.modules.items()
        }

    @abstractmethod
    def tokens(self, calls: dict[str, list[Call]]) -> Tokens:
        """Of all calls in a pass."""

    @abstractmethod
    def join(self, tensors: list[Tensor]) -> Tensor:
        """Tensors in the shapes of `parameters` as one [K, i, o]."""

    @abstractmethod
    def split(self, matrices: Tensor) -> list[Tensor]:
        """The inverse of `join`."""


def trainable(parameter: nn.Parameter | None) -> bool:
    return parameter is not None and parameter.requires_grad


def with_one(a: Tensor) -> Tensor:
    """A one behind the last axis, whose weight is a bias."""
    return torch.cat((a, a.new_ones(*a.shape[:-1], 1)), dim=-1)
