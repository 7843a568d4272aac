"""When a layer may run as one fused operation instead of as the sum of its parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules import module as hooks

CHUNK = 1 << 20  # numbers of a field that are worked on at a time, at most
_APART = ContextVar("apart", default=False)


@contextmanager
def parts_one_by_one() -> Iterator[None]:
    """Within it no layer is fused. For a graph that is walked many times, or differentiated again:
    fused operations compute their parts anew in every backward pass.
    """
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


def fusible(layer: nn.Module, x: Tensor) -> bool:
    """Whether nothing looks inside `layer` and plain reverse-mode differentiation is all there is.

    Fused operations have a hand-written backward pass, which neither the transforms of torch.func,
    nor forward mode, nor the compiler can take apart, and which calls no submodule, so hooks of
    submodules would not run. Autocast casts the parts one by one. In all these cases the layer is
    to run its parts, and so it is within `parts_one_by_one`.
    """
    return (
        type(x) is Tensor
        and x.numel() > 0
        and not torch.compiler.is_compiling()  # before what the compiler cannot look into
        and not _APART.get()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled(x.device.type)
        and not torch._C._are_functorch_transforms_active()
        and is_unobserved(*(part for part in layer.modules() if part is not layer))
        and all(is_ordinary(p, x.dtype) for p in (x, *layer.parameters()))
    )


def is_ordinary(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether x is of that type and has no tangent of forward-mode differentiation."""
    return x.dtype == dtype and forward_ad.unpack_dual(x).tangent is None


def is_still(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether the module computes what a `kind` does, and has not been put in its place."""
    return isinstance(module, kind) and type(module).forward is kind.forward


def is_unobserved(*modules: nn.Module) -> bool:
    """Whether calling these modules does what the `forward` of their classes does and no more."""
    return not hooks._has_any_global_hook() and not any(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in vars(module)
        for module in modules
    )


def chunks(rows: int, numbers: int) -> Iterator[slice]:
    """Slices of `rows` rows of so many numbers each, at least two of them: what is held of a part
    of a field is never as large as the field.
    """
    step = max(min(CHUNK // numbers, -(-rows // 2)), 1)
    return (slice(start, start + step) for start in range(0, rows, step))
