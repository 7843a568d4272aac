"""Hermitian matrices in half the memory."""

import torch
from torch import Tensor


def packed(H: Tensor) -> Tensor:
    """Hermitian matrices [K, n, n] as real numbers, linear in H.

    Complex ones as [K, n, n] with the real parts on and below the diagonal and the imaginary parts
    above; real ones as the [K, n (n + 1) / 2] numbers of a triangle.
    """
    if H.is_complex():
        return H.real.tril() + H.imag.triu(1)
    rows, columns = _triangle(H.shape[-1], H.device)
    return H[:, rows, columns]


def unpacked(P: Tensor, n: int) -> Tensor:
    """The matrices [K, n, n] that `packed` made P of."""
    if P.ndim == 3:
        lower, upper = P.tril(), P.triu(1)
        return torch.complex(lower + lower.mT - _diagonal(P), upper - upper.mT)
    rows, columns = _triangle(n, P.device)
    H = P.new_empty(len(P), n, n)
    H[:, rows, columns] = P
    H[:, columns, rows] = P
    return H


def _diagonal(P: Tensor) -> Tensor:
    return torch.diag_embed(P.diagonal(dim1=-2, dim2=-1))


def _triangle(n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.tril_indices(n, n, device=device)
    return rows, columns
