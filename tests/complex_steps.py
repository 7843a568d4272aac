"""What the tests of optimizers for complex weights share."""

import io

import torch
from torch import Tensor, nn

from sciml.layers import DenseWeight

MODES, IN, OUT = (3, 2), 4, 3


class Spectral(nn.Module):
    """One spectral weight as pairs of real numbers, or as a complex parameter in the same order of
    axes, [*modes, in, out], or in that of other projects, [in, out, *modes].
    """

    def __init__(self, start: Tensor, kind: str = "pairs"):
        super().__init__()
        self.kind = kind
        if kind == "pairs":
            self.weight = DenseWeight(start.shape[:-2], *start.shape[-2:])
            self.weight.entries = nn.Parameter(torch.view_as_real(start).clone())
        else:
            self.weight = nn.Parameter(start.movedim((-2, -1), (0, 1)).clone())

    @property
    def parameter(self) -> nn.Parameter:
        return self.weight.entries if self.kind == "pairs" else self.weight

    def give(self, gradient: Tensor) -> None:
        """[*modes, in, out], dL/dRe + i dL/dIm."""
        if self.kind == "pairs":
            self.parameter.grad = torch.view_as_real(gradient.resolve_conj()).clone()
        else:
            self.parameter.grad = gradient.movedim((-2, -1), (0, 1)).clone()

    def value(self) -> Tensor:
        p = self.parameter.detach()
        return torch.view_as_complex(p) if self.kind == "pairs" else p.movedim((0, 1), (-2, -1))


def random(*shape: int, seed: int = 0, dtype=torch.complex128) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def gradients(count: int, shape=(*MODES, IN, OUT), seed: int = 1, spread: float = 10.0) -> Tensor:
    """[count, *shape], modes of very different power, rows and columns correlated."""
    *modes, i, o = shape
    G = random(i, i, seed=seed) @ random(count, *shape, seed=seed + 1) @ random(o, o, seed=seed + 2)
    power = torch.logspace(0, -1, max(torch.Size(modes).numel(), 1), base=spread)
    return G * power.view(*modes, 1, 1)


def unitary(n: int, seed: int) -> Tensor:
    return torch.linalg.qr(random(n, n, seed=seed)).Q


def through_a_file(state: dict) -> dict:
    """What a checkpoint makes of it."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def fed(model: Spectral, optimizer, steps: Tensor) -> Tensor:
    """The weight after a step along each of the gradients."""
    for gradient in steps:
        model.give(gradient)
        optimizer.step()
    return model.value()
