"""Spectral convolutions as Kronecker blocks, one for each Fourier mode."""

import math

import torch
from torch import Tensor

from sciml.curvature.tokens import Call, Layer, Tokens
from sciml.layers import SpectralConv


class SpectralLayer(Layer):
    """The dense weights R_k [in, out] of a `SpectralConv`: in Fourier space nothing is shared, each
    sample gives each mode one outer product.

        G_k = sum_b conj(v_bk) g_bk^T,    F_k = realrep(A_k (x) B_k),
        A_k = 1/b sum_b conj(v_bk) v_bk^T,    B_k = s_k sum_b g_bk g_bk^H

    with the truncated spectrum v of the input, the gradients g = dL/dRe + i dL/dIm of the mixed
    one, and F_k the Gauss-Newton block of the real and imaginary parts of R_k. s_k is 1 for modes
    whose conjugate is kept too, or that are real fields themselves (`FourierBasis.paired`), and
    1/2 for all others. Why: a complex gradient z with E z z^H = Gamma and E z z^T = 0 has the real
    covariance realrep(Gamma) / 2. Of a mode that is its own conjugate only one of two parts has
    a gradient, with the variance Gamma; of a pair k, -k only R_k + conj(R_-k) acts on anything,
    so that two steps that know nothing of each other would go twice as far as they should.

    Exact for networks that are linear in the fields, with losses that are quadratic and the same
    at all points of a periodic grid; otherwise modes depend on each other, which is left out, and
    so is E z z^T. The bias of the convolution is not part of it.
    """

    kind = "spectral"
    is_complex = has_modes = True

    def __init__(self, module: SpectralConv):
        self.modules = {"convolution": [module], "mixing": [module.mixing]}
        self.parameters = [module.weight.entries]
        *modes, i, o, _ = module.weight.entries.shape
        self.shape = (math.prod(modes), i, o)

    def tokens(self, calls: dict[str, list[Call]]) -> Tokens:
        v = torch.cat([_modes_first(call.arguments[0].detach()) for call in calls["mixing"]], 1)
        g = torch.cat([_modes_first(call.gradient) for call in calls["mixing"]], 1)
        return Tokens(v.conj(), g, multiplicity(calls["convolution"], g))

    def join(self, tensors: list[Tensor]) -> Tensor:
        return torch.view_as_complex(tensors[0]).view(self.shape)

    def split(self, matrices: Tensor) -> list[Tensor]:
        return [torch.view_as_real(matrices).view(self.parameters[0].shape)]


def multiplicity(calls: list[Call], like: Tensor) -> Tensor:
    """s_k of `SpectralLayer`, [K]; calls on grids of different parity have the last one's."""
    basis = calls[-1].arguments[1]
    return torch.where(basis.paired.flatten(), 1.0, 0.5).to(like.device, like.real.dtype)


def _modes_first(x: Tensor) -> Tensor:
    """[*modes, b, c] as [K, b, c]."""
    return x.flatten(0, -3)
