"""The last gradients, and the damped inverse of their covariance."""

import torch
from torch import Tensor

ATTEMPTS = 6  # tenfold increases of the damping before there is no inverse
CHUNK = 1 << 14  # numbers of a gradient that are multiplied in double precision at a time


class GradientWindow:
    """The last gradients g_i as `rows` [window, d], newest in place of oldest, and their Gram
    matrix.

        (lambda + 1/n sum_i g_i g_i^T)^(-1) x = (x - R^T (n lambda + R R^T)^(-1) R x) / lambda

    for the n rows R that are there, by Woodbury's formula.
    """

    def __init__(self, size: int, length: int, like: Tensor):
        self.rows = like.new_zeros(size, length)
        self.gram = torch.zeros(size, size, dtype=torch.float64, device=like.device)
        self.taken = 0  # gradients, ever

    @property
    def count(self) -> int:
        return min(self.taken, len(self.rows))

    def absorb(self, g: Tensor, x: Tensor) -> Tensor:
        """Take in a gradient [d]; R x, [n], by the way. Products are summed in double precision:
        what is left of x without its part along the rows may be a thousandth of it.
        """
        slot = self.taken % len(self.rows)
        self.rows[slot] = g
        self.taken += 1
        n = self.count
        products = self.gram.new_zeros(2, n)
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            products += torch.stack((g[part], x[part])).double() @ self.rows[:n, part].double().T
        self.gram[slot, :n] = self.gram[:n, slot] = products[0]
        return products[1]

    def direction(self, x: Tensor, products: Tensor, damping: float) -> Tensor | None:
        """lambda (lambda + 1/n sum_i g_i g_i^T)^(-1) x of x [d] with R x in `products`, for the
        lambda = damping / n mean_i |g_i|^2 or the first power of ten times it that makes a
        positive matrix; None if none does.
        """
        n = self.count
        S = self.gram[:n, :n]
        shift = damping * S.diagonal().mean()  # n lambda
        if shift == 0:
            return x
        for _ in range(ATTEMPTS):
            L, info = torch.linalg.cholesky_ex(S + shift * torch.eye(n).to(S))
            if info == 0:
                c = torch.cholesky_solve(products[:, None], L)[:, 0].to(x.dtype)
                return x - c @ self.rows[:n] if bool(c.isfinite().all()) else None
            shift = 10 * shift
        return None

    def state(self) -> dict[str, Tensor | int]:
        n = self.count
        return {"rows": self.rows[:n], "gram": self.gram[:n, :n], "taken": self.taken}

    def load(self, state: dict[str, Tensor | int]) -> None:
        rows, taken = state["rows"], state["taken"]
        if len(rows) != min(taken, len(self.rows)) or rows.shape[1] != self.rows.shape[1]:
            raise ValueError(
                f"MFAC: the checkpoint holds {len(rows)} gradients of {rows.shape[1]:,} numbers, "
                f"expected {min(taken, len(self.rows))} of {self.rows.shape[1]:,}: window and "
                "model must be those that it was written with."
            )
        self.taken, n = taken, len(rows)
        self.rows[:n], self.gram[:n, :n] = rows, state["gram"]
