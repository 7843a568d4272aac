"""How far a prediction is from the truth: one number per sample and per channel.

Every function takes `prediction` and `target` of shape [b, c, *space] and returns [b, c]. Nothing
is summed over channels or divided by the square root of a time; the reported figure is the mean
over samples, per channel. A prediction with NaN or infinite values has an infinite error. A target
that is zero everywhere has no relative error: the functions that divide by its norm raise and name
the sample.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from datasets.schema import Field
from sciml.norms import difference, h1_norm, l2_norm
from solvers.grid import Grid

# Added to the mean square in a denominator, the value of The Well (the_well.benchmark.metrics 1.2).
WELL_EPS = 1e-7


def relative_l2(prediction: Tensor, target: Tensor) -> Tensor:
    """||prediction - target|| / ||target|| over the grid points."""
    return _ratio(l2_norm(difference(prediction, target)), l2_norm(target))


def relative_h1(prediction: Tensor, target: Tensor, grid: Grid) -> Tensor:
    """||prediction - target|| / ||target|| in the H1 norm, see `norms.h1_norm`."""
    error = difference(prediction, target)
    return _ratio(h1_norm(error, grid), h1_norm(target, grid))


def nrmse(prediction: Tensor, target: Tensor, eps: float = WELL_EPS) -> Tensor:
    """sqrt(mean (prediction - target)^2 / (mean target^2 + eps)), The Well's NRMSE.

    For eps = 0 this is `relative_l2`; The Well's eps = 1e-7 matters for fields below about 1e-2.
    """
    scale = target.flatten(2).square().mean(2) + eps
    return _ratio(_mean_square(prediction, target), scale).sqrt()


def vrmse(prediction: Tensor, target: Tensor, eps: float = WELL_EPS) -> Tensor:
    """sqrt(mean (prediction - target)^2 / (var target + eps)), The Well's VRMSE.

    The variance is the unbiased one over the grid points. Predicting the mean of the target scores
    1.
    """
    scale = target.flatten(2).var(2) + eps
    return _ratio(_mean_square(prediction, target), scale).sqrt()


def max_error(prediction: Tensor, target: Tensor) -> Tensor:
    """max |prediction - target| over the grid points, in the units of the field."""
    return _diverged_is_infinite(difference(prediction, target).abs().flatten(2).amax(2))


def channel_names(fields: Sequence[Field], grid: Grid) -> tuple[str, ...]:
    """One name per channel: `pressure`, `velocity_x`, `velocity_y`; numbered if c is not ndim."""
    axes = [axis.name for axis in grid.axes]
    names = []
    for field in fields:
        vector = field.components == len(axes)
        suffixes = axes if vector else range(field.components)
        names += [field.name] if field.components == 1 else [f"{field.name}_{s}" for s in suffixes]
    return tuple(names)


def _mean_square(prediction: Tensor, target: Tensor) -> Tensor:
    return difference(prediction, target).flatten(2).square().mean(2)


def _ratio(error: Tensor, scale: Tensor) -> Tensor:
    zero = (scale == 0).nonzero().tolist()
    if zero:
        named = ", ".join(f"sample {b} channel {c}" for b, c in zero[:5])
        raise ValueError(
            f"the target is zero everywhere in {len(zero)} case(s) ({named}), so that its relative "
            "error is undefined; leave these samples out, as FieldErrors does, or use max_error."
        )
    return _diverged_is_infinite(error / scale)


def _diverged_is_infinite(error: Tensor) -> Tensor:
    return error.nan_to_num(nan=math.inf, posinf=math.inf)
