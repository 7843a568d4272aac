"""Factors of a factorised spectral weight as Kronecker blocks."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sciml.curvature.axes import AxisTokens
from sciml.curvature.spectral import multiplicity
from sciml.curvature.tokens import Call, Layer, Tokens
from sciml.layers import CPWeight, FactorizedWeight, SpectralConv, TuckerWeight

LETTERS = "uvwx"  # of the axes of modes, and of layers before them
RANKS = "abcd"


@dataclass(frozen=True)
class Use:
    """A convolution and the number of its layer in the tensor, None where there is one alone."""

    convolution: SpectralConv
    layer: int | None


class FactorLayer(Layer):
    """One factor of a Tucker or CP weight, complex, of all convolutions that share it.

        y = W z,    z = C_k^T w,    w = V^T v          Tucker, C_k the core with the modes' factors
        y = W z,    z = m_k w,      w = V^T v          CP, m_k the product of the modes' factors

    In these V, W and the core are complex linear layers that act on every mode, so each mode counts
    as a sample of its own: for V the tokens are (conj v, dL/dw), for W (conj z, dL/dy). Row k of a
    mode's factor is a vector r of its own that all samples and the other modes share: its block
    sum t t^H, t = dL/dr of one of them, is kept whole. Gradients carry s_k^1/2 of `SpectralLayer`.
    Factors of one weight are taken for independent, which they are not: their products have a
    gauge, in whose directions the curvature is zero.
    """

    kind = "factor"
    is_complex = True

    def __init__(self, tensor: FactorizedWeight, uses: Sequence[Use], parameter: nn.Parameter):
        self.tensor, self.parameters = tensor, [parameter]
        self.layer_of = {use.convolution.mixing: use.layer for use in uses}
        self.convolution_of = {use.convolution.mixing: use.convolution for use in uses}
        self.modules = {
            "convolution": [use.convolution for use in uses],
            "mixing": [use.convolution.mixing for use in uses],
        }

    def tokens(self, calls: dict[str, list[Call]]) -> Tokens | AxisTokens:
        last = {call.module: call for call in calls["convolution"]}
        found, layers = [], []
        with torch.no_grad():
            for call in calls["mixing"]:
                v, g = call.arguments[0].detach(), call.gradient
                s = multiplicity([last[self.convolution_of[call.module]]], g)
                g = g * s.sqrt().view(*v.shape[:-2], 1, 1)
                layers.append(self.layer_of[call.module])
                found.append(self.of_one(v, g, layers[-1]))
        return self.gathered(found, layers)

    @abstractmethod
    def of_one(self, v: Tensor, g: Tensor, layer: int | None) -> Tokens | AxisTokens:
        """Tokens of one call, v [*modes, b, in] and g [*modes, b, out]."""

    def gathered(self, found: list[Tokens], layers: list[int | None]) -> Tokens:
        """Of all calls, which belong to these layers."""
        a, g = (torch.cat(parts, dim=1) for parts in zip(*((t.a, t.g) for t in found), strict=True))
        return Tokens(a, g)

    def join(self, tensors: list[Tensor]) -> Tensor:
        return torch.view_as_complex(tensors[0])[None]

    def split(self, matrices: Tensor) -> list[Tensor]:
        return [torch.view_as_real(matrices[0])]


class LeftLayer(FactorLayer):
    """V [in, p]."""

    def __init__(self, tensor: FactorizedWeight, uses: Sequence[Use], parameter: nn.Parameter):
        super().__init__(tensor, uses, parameter)
        self.shape = (1, *parameter.shape[:2])

    def of_one(self, v: Tensor, g: Tensor, layer: int | None) -> Tokens:
        inner, right = middle(self.tensor, layer)
        gz = g @ right.conj()
        gw = gz * inner.conj() if isinstance(self.tensor, CPWeight) else gz @ inner.mH
        return Tokens(v.conj().flatten(0, -2)[None], gw.flatten(0, -2)[None])


class RightLayer(FactorLayer):
    """W [out, q], as the matrix W^T."""

    def __init__(self, tensor: FactorizedWeight, uses: Sequence[Use], parameter: nn.Parameter):
        super().__init__(tensor, uses, parameter)
        o, q, _ = parameter.shape
        self.shape = (1, q, o)

    def of_one(self, v: Tensor, g: Tensor, layer: int | None) -> Tokens:
        inner, _ = middle(self.tensor, layer)
        w = v @ left_factor(self.tensor)
        z = w * inner if isinstance(self.tensor, CPWeight) else w @ inner
        return Tokens(z.conj().flatten(0, -2)[None], g.flatten(0, -2)[None])

    def join(self, tensors: list[Tensor]) -> Tensor:
        return torch.view_as_complex(tensors[0]).mT[None]

    def split(self, matrices: Tensor) -> list[Tensor]:
        return [torch.view_as_real(matrices[0].mT.resolve_conj())]


class RowsLayer(FactorLayer):
    """U [n, r], the factor of an axis of modes or of the layers: n vectors r."""

    kind = "factor of modes"
    has_modes = True

    def __init__(
        self, tensor: FactorizedWeight, uses: Sequence[Use], parameter: nn.Parameter, axis: int
    ):
        super().__init__(tensor, uses, parameter)
        self.axis = axis
        self.shape = (*parameter.shape[:2], 1)

    def of_one(self, v: Tensor, g: Tensor, layer: int | None) -> Tokens:
        """[rows, T, r]; of the factor of layers a single row."""
        stacked = layer is not None
        factors = [torch.view_as_complex(f.detach()) for f in self.tensor.factors]
        *modes, left, right = factors
        if stacked:
            modes[0] = modes[0][layer : layer + 1]
            v, g = v[None], g[None]
        w, gz = v @ left, g @ right.conj()
        count = len(modes)
        k, a = LETTERS[:count], RANKS[:count]
        others = [j for j in range(count) if j != self.axis]
        if isinstance(self.tensor, CPWeight):
            terms = [f"{k[j]}r" for j in others] + [f"{k}nr", f"{k}nr"]
            inputs = [modes[j].conj() for j in others] + [w.conj(), gz]
            t = torch.einsum(f"{','.join(terms)}->{k}nr", *inputs)
        else:
            core = torch.view_as_complex(self.tensor.core.detach()).conj()
            terms = [f"{a}pq"] + [f"{k[j]}{a[j]}" for j in others] + [f"{k}np", f"{k}nq"]
            inputs = [core, *(modes[j].conj() for j in others), w.conj(), gz]
            t = torch.einsum(f"{','.join(terms)}->{k}n{a[self.axis]}", *inputs)
        t = t.movedim(self.axis, 0).flatten(1, -2)
        return Tokens(t, torch.ones_like(t[..., :1]))

    def gathered(self, found: list[Tokens], layers: list[int | None]) -> Tokens:
        if self.axis > 0 or self.tensor.layers is None:
            return super().gathered(found, layers)
        rows = [found[0].a.new_zeros(self.shape[0], *tokens.a.shape[1:]) for tokens in found]
        for row, tokens, layer in zip(rows, found, layers, strict=True):
            row[layer] = tokens.a[0]  # of a call only the row of its layer is not zero
        a = torch.cat(rows, dim=1)
        return Tokens(a, torch.ones_like(a[..., :1]))

    def join(self, tensors: list[Tensor]) -> Tensor:
        return torch.view_as_complex(tensors[0])[..., None]

    def split(self, matrices: Tensor) -> list[Tensor]:
        return [torch.view_as_real(matrices[..., 0])]


class CoreLayer(FactorLayer):
    """The core [*ranks, p, q] of a Tucker weight: x = u_1 (x) .. u_d (x) w goes in, z comes out.

    Second moments of x are taken for the product of those of its parts, sum_k u_k u_k^H / n of
    each factor and sum w w^H: as many small matrices as there are axes (`AxisKronecker`).
    """

    kind = "core"

    def __init__(self, tensor: TuckerWeight, uses: Sequence[Use]):
        super().__init__(tensor, uses, tensor.core)
        self.shape = tuple(tensor.ranks)

    def of_one(self, v: Tensor, g: Tensor, layer: int | None) -> AxisTokens:
        factors = [torch.view_as_complex(f.detach()) for f in self.tensor.factors]
        *modes, left, right = factors
        if layer is not None:
            modes[0] = modes[0][layer : layer + 1]
        inputs = [*modes, (v @ left).flatten(0, -2)]
        return AxisTokens([x.conj() for x in inputs], (g @ right.conj()).flatten(0, -2))

    def gathered(self, found: list[AxisTokens], layers: list[int | None]) -> AxisTokens:
        inputs = [torch.cat(parts) for parts in zip(*(t.inputs for t in found), strict=True)]
        return AxisTokens(inputs, torch.cat([t.g for t in found]))

    def join(self, tensors: list[Tensor]) -> Tensor:
        return torch.view_as_complex(tensors[0])

    def split(self, matrices: Tensor) -> list[Tensor]:
        return [torch.view_as_real(matrices)]


def factor_layers(tensor: FactorizedWeight, uses: Sequence[Use]) -> dict[str, Layer]:
    """By the names of the parameters in the tensor; none for kinds without known factors."""
    if not isinstance(tensor, TuckerWeight | CPWeight):
        return {}
    *modes, left, right = tensor.factors
    count = len(modes)
    found: dict[str, Layer] = {
        f"factors.{j}": RowsLayer(tensor, uses, f, j) for j, f in enumerate(modes)
    }
    found[f"factors.{count}"] = LeftLayer(tensor, uses, left)
    found[f"factors.{count + 1}"] = RightLayer(tensor, uses, right)
    if isinstance(tensor, TuckerWeight):
        found["core"] = CoreLayer(tensor, uses)
    return found


def left_factor(tensor: FactorizedWeight) -> Tensor:
    return torch.view_as_complex(tensor.factors[-2].detach())


def middle(tensor: FactorizedWeight, layer: int | None) -> tuple[Tensor, Tensor]:
    """What stands between V and W for each mode, [*modes, p, q] or [*modes, 1, r], and W."""
    if isinstance(tensor, CPWeight):
        modes, _, right = tensor._factors(layer)
        return modes.reshape(*tensor.spectrum, 1, tensor.rank), right
    core, *modes, _, right = tensor._factors(layer)
    for axis, factor in enumerate(modes):
        core = torch.tensordot(factor, core, ([1], [axis])).movedim(0, axis)
    return core, right
