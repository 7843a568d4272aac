"""The block of a Fourier neural operator."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from sciml.layers.fourier_basis import FourierBasis
from sciml.layers.fusion import fusible, is_ordinary, is_still
from sciml.layers.perceptron import Perceptron, gradients, is_final
from sciml.layers.spectral_conv import Mixing, SpectralConv, add_mean
from sciml.layers.spectral_weight import DenseWeight

aten = torch.ops.aten


class FourierBlock(nn.Module):
    """v <- s( M( s(K v + W v) ) + g v ); `last` leaves the two activations s out.

    K is a `SpectralConv`, W a linear map and M a `Perceptron` at each point, g a gate per channel,
    s = GELU. v has the points first, [*space, b, width]. Where `fusible` allows the block is one
    operation that keeps v, K v + W v and the truncated spectrum for its backward pass; otherwise,
    among others where a hook watches one of its parts, these are called one by one. With `spend` v
    may be overwritten, where no gradient is asked for: nobody else may hold it.
    """

    def __init__(
        self,
        width: int,
        modes: Sequence[int],
        weight: Callable[[Sequence[int], int, int], nn.Module] = DenseWeight,
    ):
        super().__init__()
        self.convolution = SpectralConv(width, width, modes, weight)
        self.skip = nn.Linear(width, width, bias=False)
        self.mlp = Perceptron(width, max(width // 2, 1), width)
        self.gate = nn.Parameter(torch.ones(width))

    @property
    def is_standard(self) -> bool:
        """Whether the parts are of the kinds that the constructor chose."""
        return (
            is_still(self.convolution, SpectralConv)
            and is_still(self.convolution.mixing, Mixing)
            and self.convolution.bias is not None
            and is_still(self.skip, nn.Linear)
            and self.skip.bias is None
            and is_still(self.mlp, Perceptron)
            and self.mlp.is_standard
        )

    def forward(self, v: Tensor, basis: FourierBasis, *, last: bool, spend: bool = False) -> Tensor:
        if fusible(self, v) and self.is_standard:
            R = self.convolution.weight.dense()
            if is_ordinary(R, v.dtype.to_complex()):  # its factors may be registered elsewhere
                return self._fused(v, R, basis, last, spend)
        u = self.convolution(v, basis) + self.skip(v)
        u = torch.addcmul(self.mlp(u if last else gelu(u)), self.gate, v)
        return u if last else gelu(u)

    def _fused(self, v: Tensor, R: Tensor, basis: FourierBasis, last: bool, spend: bool) -> Tensor:
        first, _, second = self.mlp
        weights = (
            *(R, self.convolution.bias, self.skip.weight),
            *(first.weight, first.bias, second.weight, second.bias),
            self.gate,
        )
        keep = torch.is_grad_enabled()
        return FusedBlock.apply(v.contiguous(), *weights, basis, last, keep, spend and not keep)


class FusedBlock(torch.autograd.Function):
    """The block with its backward pass by hand; pointwise work goes in chunks of rows.

    Saved are v, u = K v + W v and the truncated spectrum of v; the rest is computed again: a
    training step needs about a third of the memory. Nothing saved is written to: the graph may be
    walked twice. A backward pass that will itself be differentiated runs the parts under autograd.
    `keep` is false where no gradient can be asked for, and with `spend` the result then takes the
    place of v.
    """

    @staticmethod
    def forward(ctx, v, R, c, W, A, a, B, b, g, basis, last, keep, spend):
        ctx.basis, ctx.last = basis, last
        z = basis.analyse(v)
        y = torch.matmul(z, R)
        y[(0,) * len(basis.modes)] += c
        lines = basis.lines(y)
        out = v if spend else torch.empty_like(v)
        u = torch.empty_like(v) if keep else None
        width = v.shape[-1]
        for part in basis.parts(v.numel()):
            x, r = v[part].view(-1, width), out[part].view(-1, width)
            p = torch.mm(x, W.T, out=u[part].view(-1, width)) if keep else torch.mm(x, W.T)
            basis.add_part(p, part, lines)
            q = p if last else gelu(p) if keep else aten.gelu_(p)
            q = aten.gelu_(torch.addmm(a, q, A.T))
            torch.addcmul(b, x, g, out=r).addmm_(q, B.T)
            if not last:
                aten.gelu_(r)
        if keep:
            ctx.save_for_backward(v, R, c, W, A, a, B, b, g, u, z)
        return out

    @staticmethod
    def backward(ctx, dout):
        v, R, c, W, A, a, B, b, g, u, z = ctx.saved_tensors
        basis, last, inputs = ctx.basis, ctx.last, (v, R, c, W, A, a, B, b, g)
        if not is_final(dout):
            parts = partial(_parts, basis=basis, last=last)
            return (*gradients(parts, inputs, dout, ctx.needs_input_grad[:9]), *[None] * 4)
        dv, lines, *pointwise = _pointwise_backward(v, *inputs[3:], u, dout, basis, last)
        dy = basis.adjoint.spectrum(lines, v.shape[-2:])
        del lines
        dR = torch.matmul(z.mH, dy)
        dc = dy[(0,) * len(basis.modes)].real.sum(0)
        lines = basis.adjoint.lines(torch.matmul(dy, R.mH))
        basis.adjoint.add_part(dv, slice(None), lines)
        return dv, dR, dc, *pointwise, *[None] * 4


def _pointwise_backward(v, W, A, a, B, b, g, u, dout, basis: FourierBasis, last: bool):
    """Gradients of v, but for what it does to K v, and of K v after the first step of its adjoint;
    then those of W, A, a, B, b and g.
    """
    adjoint, width, dout = basis.adjoint, v.shape[-1], dout.contiguous()
    dv, lines = torch.empty_like(v), adjoint.zero_lines(v)
    dW, dA, da, dB, db, dg = (torch.zeros_like(p) for p in (W, A, a, B, b, g))
    for part in basis.parts(v.numel()):
        x, y, dr, dx = (field[part].view(-1, width) for field in (v, u, dout, dv))
        p = y if last else gelu(y)
        h = torch.addmm(a, p, A.T)
        q = gelu(h)
        if not last:
            r = torch.addcmul(b, x, g).addmm_(q, B.T)
            dr = aten.gelu_backward.grad_input(dr, r, grad_input=r)
        dg += torch.mul(dr, x, out=dx).sum(0)
        db += dr.sum(0)
        dB.addmm_(dr.T, q)
        dh = aten.gelu_backward.grad_input(torch.mm(dr, B, out=q), h, grad_input=q)
        dA.addmm_(dh.T, p)
        da += dh.sum(0)
        if last:
            du = torch.mm(dh, A)
        else:
            du = aten.gelu_backward.grad_input(torch.mm(dh, A, out=p), y, grad_input=p)
        dW.addmm_(du.T, x)
        torch.mul(dr, g, out=dx).addmm_(du, W)
        adjoint.add_sums(lines, part, du)
    return dv, lines, dW, dA, da, dB, db, dg


def _parts(v, R, c, W, A, a, B, b, g, basis: FourierBasis, last: bool) -> Tensor:
    """The block as autograd sees it."""
    y = add_mean(torch.matmul(basis.analyse(v), R), c)
    u = basis.synthesise(y) + linear(v, W)
    q = gelu(linear(u if last else gelu(u), A, a))
    r = linear(q, B, b) + g * v
    return r if last else gelu(r)
