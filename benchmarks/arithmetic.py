"""What the arithmetic of a call costs at the least, and the time that it takes."""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Arithmetic(TorchDispatchMode):
    """Counts what a call multiplies in matrix products, in flops, and its GELUs, in numbers."""

    def __init__(self):
        super().__init__()
        self.counts = {"product": 0, "gelu": 0, "gelu_backward": 0}

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        out = function(*arguments, **(options or {}))
        name = function.overloadpacket.__name__.removesuffix("_")
        if name in ("mm", "bmm"):
            self._product(out, arguments[0])
        elif name in ("addmm", "baddbmm"):
            self._product(out, arguments[1])
        elif name in self.counts:
            self.counts[name] += out.numel()
        return out

    def _product(self, out: Tensor, left: Tensor) -> None:
        self.counts["product"] += out.numel() * left.shape[-1] * (8 if out.is_complex() else 2)


def limit(ours: Callable[[], None], theirs: Callable[[], None], rounds: int) -> float:
    """How many times as fast as theirs ours could be: by its products and GELUs
    alone, at the rates of a large product and of numbers in the cache in the same rounds.
    """
    with Arithmetic() as counter:
        ours()
    a, x = torch.randn(1024, 1024), torch.randn(1 << 17)
    out, aten = torch.empty_like(x), torch.ops.aten
    work = {
        "product": (2 * 1024**3, lambda: a @ a),
        "gelu": (x.numel(), lambda: aten.gelu.out(x, out=out)),
        "gelu_backward": (x.numel(), lambda: aten.gelu_backward.grad_input(x, x, grad_input=out)),
    }
    ratios = []
    for _ in range(rounds):
        spent = 0.0
        for name, (count, call) in work.items():
            spent += counter.counts[name] * min(timed(call) for _ in range(3)) / count
        ratios.append(timed(theirs) / spent)
    return statistics.median(ratios)


def timed(call: Callable[[], None]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
