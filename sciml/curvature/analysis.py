"""What the curvature of a training loss is at some weights, as plain values."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from curvlinops import hutchpp_trace

from sciml.curvature.estimate import Estimate, mean
from sciml.curvature.landscape import filter_normalised, plane
from sciml.curvature.noise_scale import noise_scales
from sciml.curvature.operators import SampledLoss
from sciml.curvature.spectrum import Eigenpairs, largest, quadrature, traces
from sciml.curvature.stability import AdamScaling, descent_limit

SMALL = 1e-3  # of the largest eigenvalue: negative ones below are counted
ROUNDING = 10  # times the precision of the weights and the largest eigenvalue: zero


@dataclass(frozen=True)
class Effort:
    """How much to compute: `steps` of Lanczos from each of the random `vectors`, so many
    `eigenvalues`, and points per axis of a plane, `grid`, or none.
    """

    steps: int = 30
    vectors: int = 4
    eigenvalues: int = 5
    grid: int | None = 21
    seed: int = 0


def analysis(
    loss: SampledLoss,
    effort: Effort,
    scaling: AdamScaling | None = None,
    begin: Callable[[str], None] = lambda stage: None,
) -> dict[str, Any]:
    """Spectrum and traces of Hessian and Gauss-Newton matrix, planes of the loss, and what follows
    for learning rate and batch size, in plain values. Estimates are {"value", "error"}, the error
    one standard error; None stands for what cannot be told. `begin` hears of each stage.
    """
    seed, hessian = effort.seed, loss.hessian()
    begin("largest eigenvalues")
    top = largest(hessian.to_scipy(), effort.eigenvalues, seed=seed)
    if not len(top.values) or not top.values[0] > 0:
        raise ValueError(
            f"the Hessian has no positive eigenvalue that Lanczos finds ({top.values}): there is "
            "no minimum nearby to analyse."
        )
    slope = loss.gradient()
    steepest = torch.from_numpy(top.vectors[:, 0].copy()).to(slope)
    found = {
        "parameters": hessian.shape[0],
        "loss": loss.value(),
        "gradient_norm": float(slope.norm()),
        "hessian": {
            "eigenvalues": top.values.tolist(),
            "residuals": top.residuals.tolist(),
            "first": mean(loss.curvatures(steepest))._asdict(),
        },
    }
    begin("spectral density")
    steps, floor = min(effort.steps, len(slope)), ROUNDING * loss.view.epsilon * top.values[0]
    spectrum = quadrature(hessian, steps, effort.vectors, floor=floor, seed=seed + 1)
    number, share = spectrum.negative(SMALL * top.values[0])
    found["density"] = {key: value.tolist() for key, value in vars(spectrum).items()}
    begin("traces")
    trace, blocks = traces(hessian, loss.view.sizes, effort.vectors, known=top, seed=seed + 2)
    found["hessian"] |= {
        "smallest": float(spectrum.nodes.min()),
        "trace": trace._asdict(),
        "participation": spectrum.participation()._asdict(),
        "negative": {"number": number._asdict(), "share": share._asdict(), "below": SMALL},
    }
    found["layers"] = [
        {"name": name, "parameters": size, **block._asdict()}
        for name, size, block in zip(loss.names, loss.view.sizes, blocks, strict=True)
    ]
    begin("Gauss-Newton matrix")
    found["gauss_newton"] = _gauss_newton(loss, effort)
    begin("learning rates")
    found["learning_rate"] = _learning_rate(top, hessian, scaling, seed)
    begin("noise scale")
    plain, curved = noise_scales(loss, hessian)
    found["batch_size"] = {"simple": _plain(plain), "curved": _plain(curved)}
    begin("planes")
    found["planes"] = {} if effort.grid is None else _planes(loss, top, slope, effort)
    return found


def _gauss_newton(loss: SampledLoss, effort: Effort) -> dict[str, Any]:
    operator = loss.gauss_newton()
    products = 3 * min(effort.vectors, (operator.shape[0] - 1) // 3)
    with torch.random.fork_rng():
        torch.manual_seed(effort.seed + 3)
        trace = float(hutchpp_trace(operator, products))
    top = largest(operator.to_scipy(), 1, seed=effort.seed)
    return {"eigenvalue": float(top.values[0]) if len(top.values) else None, "trace": trace}


def _learning_rate(
    top: Eigenpairs, hessian, scaling: AdamScaling | None, seed: int
) -> dict[str, Any]:
    found = {"descent": {"eigenvalue": top.values[0], "limit": descent_limit(top.values[0])}}
    if scaling is not None:
        steep = largest(scaling.applied(hessian), 1, seed=seed).values
        if len(steep) and steep[0] > 0:
            limit = descent_limit(steep[0], scaling.beta)
            found["adam"] = {
                "eigenvalue": steep[0],
                "limit": limit,
                "momentum": scaling.beta,
                "rate": scaling.rate,
            }
    return {k: {name: float(x) for name, x in v.items()} for k, v in found.items()}


def _planes(loss: SampledLoss, top: Eigenpairs, slope, effort: Effort) -> dict[str, Any]:
    """Along two eigenvectors, as far as each doubles the loss of a quadratic function twice; and
    along two random directions, as far as the weights are long.
    """
    found = {}
    if len(top.values) > 1 and top.values[1] > 0:
        a, b = torch.from_numpy(np.ascontiguousarray(top.vectors[:, :2].T))
        extents = tuple(2 * math.sqrt(2 * loss.value() / value) for value in top.values[:2])
        found["eigenvectors"] = {
            **plane(loss, a, b, extents, effort.grid)._asdict(),
            "slope": [float(slope.cpu() @ a), float(slope.cpu() @ b)],
            "curvature": top.values[:2].tolist(),
        }
    a, b = (filter_normalised(loss.view, 2 * effort.seed + i) for i in range(2))
    found["random"] = plane(loss, a, b, (1.0, 1.0), effort.grid)._asdict()
    return found


def _plain(estimate: Estimate | None) -> dict[str, float] | None:
    return None if estimate is None else estimate._asdict()
