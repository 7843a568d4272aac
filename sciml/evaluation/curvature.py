"""An analysis of curvature in words and figures: `curvature.json` for the report and the terminal.

What is in the file is told by `sciml.curvature.analysis`.
"""

from collections.abc import Mapping
from typing import Any

from sciml.evaluation import curvature_figures as draw
from sciml.evaluation.page import count, number

CURVATURE = "curvature.json"
ADAM = ("torch.optim.Adam", "torch.optim.AdamW")
MEANING = (
    "The rates are those above which a step on all of these samples at once grows along the "
    "steepest direction of a quadratic function, at these weights. They bound a rate from above, "
    "they do not choose one: small batches and a warm-up want less, and training that goes beyond "
    "for some steps may come to flatter places instead of diverging [Cohen et al. 2022, "
    "arXiv:2207.14484].",
    "The noise scale is the batch size at which noise and gradient are alike: far below it, twice "
    "the batch does with half the steps, far above it, with as many [McCandlish et al. 2018, "
    "arXiv:1812.06162]. It holds for steps along the gradient at these weights and grows in "
    "training. It does not say which batch size generalises best.",
    "All figures are of the loss that was trained on, on a few samples of it; none says anything "
    "about the error on others.",
)


def summary(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values, a line each."""
    hessian, other = record["hessian"], record["gauss_newton"]
    values, n = hessian["eigenvalues"], record["parameters"]
    negative = hessian["negative"]
    residual = max(r / v for r, v in zip(hessian["residuals"], values, strict=True))
    return [
        ("Weights", f"{record['checkpoint']}, after {count(record['step'])} steps"),
        ("Loss", f"{number(record['loss'])} on {record['samples']} samples ({record['split']})"),
        ("Gradient norm", number(record["gradient_norm"])),
        (
            "Largest eigenvalues",
            f"{', '.join(map(number, values))}; residuals up to {number(residual, 1)} of them",
        ),
        (
            "the first, over samples",
            f"{_with_error(hessian['first'])}: how much rests on which were drawn",
        ),
        ("Smallest eigenvalue", f"{number(hessian['smallest'])} at most"),
        ("Trace", _with_error(hessian["trace"])),
        (
            "Negative eigenvalues",
            f"{_with_error(negative['share'], 100)} % of the sum of |λ|; "
            f"{_with_error(negative['number'], n)} eigenvalues lie below "
            f"{-negative['below']} of the largest",
        ),
        (
            "Effective dimension",
            f"(Σ|λ|)² / Σλ² = {_with_error(hessian['participation'], n)} of {count(n)}",
        ),
        (
            "Gauss-Newton matrix",
            f"largest eigenvalue {number(other['eigenvalue'])}, trace {number(other['trace'])}",
        ),
        *_rates(record["learning_rate"], record["run_rate"], record.get("steps_along")),
        *_batches(record["batch_size"], record["samples"], record["run_batch_size"]),
    ]


def _rates(
    found: Mapping[str, Any], highest: float | None, method: str | None
) -> list[tuple[str, str]]:
    descent = found["descent"]
    text = f"{number(descent['limit'])} = 2 / {number(descent['eigenvalue'])}"
    rows = [("Stable rate, descent", f"up to {text}")]
    if "adam" in found:
        adam = found["adam"]
        factor = adam["limit"] * adam["eigenvalue"]
        text = f"up to {number(adam['limit'])} = {factor:g} / {number(adam['eigenvalue'])}"
        text += f"; the run has {number(adam['rate'])} here"
        text += f" and {number(highest)} at most" if highest else ""
        rows.append(("Stable rate, Adam", text))
    elif method:
        name = method.rpartition(".")[2]
        reason = "its checkpoint has no moments" if method in ADAM else f"its steps are {name}'s"
        rows.append(("Stable rate, Adam", f"none for this run: {reason}"))
    return rows


def _batches(found: Mapping[str, Any], samples: int, used: int) -> list[tuple[str, str]]:
    simple, curved = found["simple"], found["curved"]
    text = f"more than these {samples} samples, whose mean gradient is noise"
    if simple is not None:
        text = f"{_with_error(simple)} samples"
    if curved is not None:
        text += f"; weighed by the Hessian {_with_error(curved)}"
    return [("Noise scale", f"{text}; the run takes {used} at a time")]


def section(record: Mapping[str, Any]) -> dict[str, Any]:
    """What the template of a report shows."""
    layers = sorted(record["layers"], key=lambda layer: -layer["value"])
    return {
        "rows": summary(record),
        "notes": MEANING,
        "layers": [
            (
                layer["name"],
                count(layer["parameters"]),
                _with_error(layer),
                _with_error(layer, 1 / layer["parameters"]),
            )
            for layer in layers
        ],
    }


def pictures(record: Mapping[str, Any]) -> dict[str, tuple[bytes, str, str]]:
    """PNG, caption and kind (see `report`) by name."""
    loss, planes, trace = record["loss"], record["planes"], "Trace of the Hessian by tensor"
    shown = min(len(record["layers"]), draw.MANY)
    vectors, steps = len(record["density"]["nodes"]), len(record["density"]["nodes"][0])
    found = {
        "spectrum": (
            draw.density(record),
            f"Spectral density of the Hessian by {steps} steps of Lanczos from {vectors} random "
            "vectors; eigenvalues closer than the range over the steps are one bump.",
            "line",
        ),
        "counts": (
            draw.counts(record),
            "The same without bumps: how many eigenvalues lie above x, and how many below −x.",
            "line",
        ),
    }
    if "eigenvectors" in planes:
        found["eigenvectors"] = (
            draw.eigenvector_plane(planes["eigenvectors"], loss),
            "Loss along the two eigenvectors of largest curvature; dashed, the parabola of slope "
            "and curvature at the cross, on the same levels.",
            "map",
        )
    if "random" in planes:
        found["random"] = (
            draw.random_plane(planes["random"], loss),
            "Loss along two random directions whose filters are as long as the weights at 1 "
            "[Li et al. 2018, arXiv:1712.09913].",
            "map",
        )
    found["layers"] = (
        draw.layers(record),
        f"{trace}, the {shown} largest of {len(record['layers'])}, with standard errors; hollow: "
        "below zero, its size.",
        "line",
    )
    return found


def _with_error(estimate: Mapping[str, float], factor: float = 1.0) -> str:
    """`12.3 ± 0.40`."""
    value, error = factor * estimate["value"], factor * estimate["error"]
    return f"{number(value)} ± {number(error, 2)}"
