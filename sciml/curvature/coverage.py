"""Which layers of a model have Kronecker factors, and which parameters only a diagonal."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from torch import nn

from sciml.curvature.blocked import blocked
from sciml.curvature.convolution import (
    CONVOLUTIONS,
    TRANSPOSED,
    ConvolutionLayer,
    TransposedLayer,
)
from sciml.curvature.factors import CoreLayer, Use, factor_layers
from sciml.curvature.linear import JetLayer, LinearLayer, Sharing
from sciml.curvature.neuralop_spectral import NeuralopLayer, is_neuralop
from sciml.curvature.spectral import SpectralLayer
from sciml.curvature.tokens import Layer, trainable
from sciml.layers import DenseWeight, FactorizedWeight, JetLinear, SpectralConv
from sciml.layers.fusion import is_still
from sciml.layers.joint_weights import LayerWeight


@dataclass
class Coverage:
    """The layers, and the parameters outside of them with the reason."""

    layers: dict[str, Layer] = field(default_factory=dict)
    rest: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)  # real numbers of every parameter

    @property
    def share(self) -> float:
        """Of the trainable numbers, those in layers."""
        total = sum(self.sizes.values())
        return 1 - sum(self.sizes[name] for name in self.rest) / max(total, 1)

    def summary(self) -> str:
        """One line."""
        kinds = defaultdict(int)
        for layer in self.layers.values():
            kinds[layer.kind] += 1
        layers = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none"
        share, tensors = 100 * self.share, f"{len(self.rest)} tensor{'s'[len(self.rest) == 1 :]}"
        percent = f"{min(share, 99.9) if self.rest else share:.1f}"
        return (
            f"{percent} % of {sum(self.sizes.values()):,} parameters in Kronecker "
            f"blocks ({layers}), {tensors} by their diagonal"
        )


def cover(
    model: nn.Module,
    *,
    sharing: Sharing = "expand",
    exclude: Sequence[str] = (),
    block_size: int | None = None,
) -> Coverage:
    """Finds the layers of `model`. Parameters whose name matches one of the regular expressions
    `exclude` are left to the diagonal; frozen ones to nobody.

    Modules that hold one and the same weight are one layer that is called several times, if they
    are of one kind. Sides of real layers longer than `block_size` are cut (`BlockedLayer`); None
    leaves them whole. ValueError for a pattern that is none, or matches no parameter.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    _require_matches(exclude, list(names.values()))
    found, claimed = Coverage(), {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            found.sizes[name] = p.numel() * (2 if p.is_complex() else 1)
            found.rest[name] = "no layer with known factors holds it"
    for path, layer in found_layers(model, sharing):
        if not isinstance(layer, CoreLayer):
            layer = blocked(layer, block_size)
        keys = tuple(id(p) for p in layer.parameters)
        if any(key not in names for key in keys):
            continue  # a part of another model
        if any(re.search(pattern, names[key]) for key in keys for pattern in exclude):
            for key in keys:
                found.rest[names[key]] = "excluded"
            continue
        if taken := {claimed[key] for key in keys if key in claimed}:
            first = found.layers.get(next(iter(taken)))
            if first is not None and _tied(first, layer):
                for role, modules in layer.modules.items():
                    first.modules[role] += modules
                continue
            for other in taken:  # one weight in layers of different kinds
                for p in found.layers.pop(other, layer).parameters:
                    found.rest[names[id(p)]] = f"shared by {other} and {path}"
            continue
        found.layers[path] = layer
        claimed |= dict.fromkeys(keys, path)
        for key in keys:
            found.rest.pop(names[key], None)
    return found


def _require_matches(patterns: Sequence[str], names: Sequence[str]) -> None:
    for pattern in patterns:
        try:
            found = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise ValueError(
                f"curvature.exclude: {pattern!r} is no regular expression ({error})."
            ) from None
        if not found:
            raise ValueError(
                f"curvature.exclude: {pattern!r} matches no parameter; they have names such as "
                f"{', '.join(names[:3])}."
            )


def found_layers(model: nn.Module, sharing: Sharing) -> Iterator[tuple[str, Layer]]:
    """All layers that are known, by the path of their module or parameter."""
    uses: dict[FactorizedWeight, list[Use]] = defaultdict(list)
    for path, module in model.named_modules():
        make = adapter(module)
        if make is not None:
            yield path, make(module, sharing)
        elif isinstance(module, SpectralConv) and is_still(module, SpectralConv):
            weight, layer = module.weight, None
            if isinstance(weight, LayerWeight):
                weight, layer = weight.tensor, weight.layer
            if isinstance(weight, FactorizedWeight):
                uses[weight].append(Use(module, layer))
    paths = {module: path for path, module in model.named_modules()}
    for weight, convolutions in uses.items():
        for name, layer in factor_layers(weight, convolutions).items():
            if trainable(layer.parameters[0]):
                yield f"{paths[weight]}.{name}", layer


def adapter(module: nn.Module) -> Callable[[nn.Module, Sharing], Layer] | None:
    """What makes a layer of a module, None for modules that are not known or are frozen."""
    weight = module.weight if isinstance(module, SpectralConv) else None
    if weight is not None and is_still(module, SpectralConv):
        if is_still(weight, DenseWeight) and trainable(weight.entries):
            return lambda module, sharing: SpectralLayer(module)
        return None
    if is_neuralop(module):
        return lambda module, sharing: NeuralopLayer(module)
    if not isinstance(getattr(module, "weight", None), nn.Parameter) or not trainable(
        module.weight
    ):
        return None
    if module.weight.is_complex():  # spectral layers aside, factors are those of real layers
        return None
    if is_still(module, nn.Linear):
        return LinearLayer
    if is_still(module, JetLinear):
        return lambda module, sharing: JetLayer(module)
    if isinstance(module, CONVOLUTIONS) and any(is_still(module, kind) for kind in CONVOLUTIONS):
        return ConvolutionLayer
    if isinstance(module, TRANSPOSED) and any(is_still(module, kind) for kind in TRANSPOSED):
        return lambda module, sharing: TransposedLayer(module)
    return None


def _tied(first: Layer, second: Layer) -> bool:
    same = [id(p) for p in first.parameters] == [id(p) for p in second.parameters]
    alike = first.kind == second.kind and first.shape == second.shape
    return type(first) is type(second) and alike and same
