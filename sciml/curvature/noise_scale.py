"""From which batch size on a larger batch is a waste: the gradient noise scale."""

import torch
from curvlinops import HessianLinearOperator
from torch import Tensor

from sciml.curvature.estimate import Estimate
from sciml.curvature.operators import SampledLoss

MOST = 32  # samples whose gradients are multiplied by the Hessian


def noise_scales(
    loss: SampledLoss, hessian: HessianLinearOperator
) -> tuple[Estimate | None, Estimate | None]:
    """With the gradients g_i of single samples, their mean G and covariance S, in samples,

        tr(S) / |G|^2,    tr(H S) / (G^T H G)

    [McCandlish et al. 2018, arXiv:1812.06162, section 2]. None where the gradients do not tell G
    from noise. The second is of `MOST` samples at most, with one product for each; gradients are
    computed twice, so that only a few are kept.
    """
    few = min(loss.samples, MOST)
    G, G_few = _mean(loss, loss.samples), _mean(loss, few)
    plain, curved = [], []
    for i in range(loss.samples):
        g = loss.gradient(i)
        plain.append((g @ g, g @ G))
        if i < few:
            product = hessian @ g
            curved.append((g @ product, G_few @ product))
    return tuple(ratio(*torch.tensor(pairs).double().T) for pairs in (plain, curved))


def _mean(loss: SampledLoss, samples: int) -> Tensor:
    return sum(loss.gradient(i) for i in range(samples)) / samples


def ratio(own: Tensor, with_mean: Tensor) -> Estimate | None:
    """tr(M S) / (G^T M G), both without bias, from g_i^T M g_i and g_i^T M G, [m] each:

        tr(M S) ~ (sum_i g_i^T M g_i - m G^T M G) / (m - 1)
        G^T M G ~ sum_(i != j) g_i^T M g_j / (m (m - 1))

    and its standard error by leaving out one sample at a time. None unless the denominator is
    positive whichever is left out.
    """
    m = len(own)
    squares, total = own.sum(), m * with_mean.sum()  # (sum g_i)^T M (sum g_i)

    def scale(n: int, squares: Tensor, total: Tensor) -> Tensor:
        signal = (total - squares) / (n * (n - 1))
        return (squares - total / n) / (n - 1) / signal.clamp_min(0)

    left = scale(m - 1, squares - own, total - 2 * m * with_mean + own)
    if m < 3 or not bool(left.isfinite().all()):
        return None
    error = ((m - 1) / m * (left - left.mean()).square().sum()).sqrt()
    return Estimate(float(scale(m, squares, total)), float(error))
