"""Figures of an analysis of curvature, from what `curvature.json` holds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sciml.evaluation.figures import COLOURS, FIELD_MAP, drawn, small
from sciml.evaluation.page import number

SOFT = "#8a9099"
MANY, DECADES, LEVELS = 16, 4, 15  # tensors, decades of eigenvalues, contours
SQUARE = (4.7, 3.9)  # inches


@drawn
def density(record: Mapping[str, Any]) -> Figure:
    """Share of eigenvalues per unit, with bumps in place of points; the largest ones are marked."""
    figure, axes = small()
    grid, height = (np.array(record["density"][key]) for key in ("grid", "density"))
    axes.plot(grid, height, color=COLOURS[0], label="all, smoothed")
    axes.set_yscale("log")
    one = 1 / (record["parameters"] * (grid[-1] - grid[0]))  # a single eigenvalue, spread out
    axes.set_ylim(one / 3, 3 * height.max())
    values = record["hessian"]["eigenvalues"]
    axes.plot(values, np.full(len(values), one), "|", ms=10, mew=1.6, color=COLOURS[1])
    axes.lines[-1].set_label("the largest ones")
    axes.axvline(0, color=SOFT, lw=0.8, zorder=0)
    axes.set(xlabel="eigenvalue λ of the Hessian", ylabel="density of eigenvalues")
    axes.legend(loc="upper right")
    return figure


@drawn
def counts(record: Mapping[str, Any]) -> Figure:
    """How many eigenvalues lie above x, and how many below -x."""
    figure, axes = small()
    nodes, weights = (np.array(record["density"][key]) for key in ("nodes", "weights"))
    first, total = record["hessian"]["eigenvalues"][0], record["parameters"]
    floor = first / 10**DECADES
    for sign, label, colour in ((1, "above x", COLOURS[0]), (-1, "below −x", COLOURS[1])):
        sizes = sign * nodes.ravel()
        order = np.argsort(sizes)[::-1]
        order = order[sizes[order] > floor]
        ends = np.append(sizes[order], floor)
        number = total * np.cumsum(weights.ravel()[order]) / len(nodes)
        if len(order):
            axes.step(ends, np.append(number, number[-1]), color=colour, label=label)
        else:
            axes.plot([], [], color=colour, label=f"{label}: none")
    axes.axhline(total, color=SOFT, lw=1, ls=(0, (3, 3)), label="parameters")
    axes.set(xscale="log", yscale="log", xlabel="x", ylabel="number of eigenvalues")
    axes.set(xlim=(floor / 1.5, 2 * first), ylim=(0.5, 3 * total))
    axes.legend(loc="lower left")
    return figure


@drawn
def layers(record: Mapping[str, Any]) -> Figure:
    """Trace of the Hessian over each tensor, and per parameter of it; the largest of them."""
    chosen = sorted(record["layers"], key=lambda layer: -layer["value"])[:MANY]
    figure = Figure(figsize=(9.6, 1.0 + 0.26 * len(chosen)), layout="constrained")
    whole, each = figure.subplots(1, 2, sharey=True)
    _traces(whole, chosen, np.ones(len(chosen)), "trace of the Hessian")
    _traces(each, chosen, np.array([x["parameters"] for x in chosen]), "trace per parameter")
    whole.set_yticks(range(len(chosen)), [layer["name"] for layer in chosen])
    whole.set_ylim(len(chosen) - 0.4, -0.6)
    return figure


def _traces(axes: Axes, chosen: list[Mapping[str, Any]], by: np.ndarray, label: str) -> None:
    value, error = (np.array([layer[key] for layer in chosen]) / by for key in ("value", "error"))
    for sign, fill in ((1, "full"), (-1, "none")):
        rows = np.flatnonzero(sign * value > 0)
        size = np.abs(value[rows])
        bars = np.stack([np.minimum(error[rows], 0.9 * size), error[rows]])  # ends above zero
        axes.errorbar(
            size, rows, xerr=bars, fmt="o", ms=4.5, lw=1.4, color=COLOURS[0], fillstyle=fill
        )
    axes.set_xscale("log")
    axes.grid(True)
    axes.set_axisbelow(True)
    axes.set_xlabel(label)


@drawn
def eigenvector_plane(plane: Mapping[str, Any], loss: float) -> Figure:
    """Filled: the loss. Dashed: the same levels of the parabola with its slope and curvature."""
    figure, axes, levels = _filled(plane, loss)
    x, y = np.meshgrid(plane["x"], plane["y"], indexing="ij")
    terms = zip(plane["slope"], plane["curvature"], (x, y), strict=True)
    model = loss + sum(g * z + k * z**2 / 2 for g, k, z in terms)
    axes.contour(x, y, model, levels[1::2], colors="white", linewidths=1, linestyles="--")
    first, second = (f"distance along eigenvector, λ = {number(k)}" for k in plane["curvature"])
    axes.set(xlabel=first, ylabel=second)
    return figure


@drawn
def random_plane(plane: Mapping[str, Any], loss: float) -> Figure:
    """The loss along two random directions whose filters are as long as the weights at 1."""
    figure, axes, _ = _filled(plane, loss)
    axes.set(xlabel="random direction, in weight norms", ylabel="another one, in weight norms")
    return figure


def _filled(plane: Mapping[str, Any], loss: float) -> tuple[Figure, Axes, np.ndarray]:
    figure = Figure(figsize=SQUARE, layout="constrained")
    axes = figure.add_subplot()
    values = np.array(plane["loss"], dtype=float)
    seen = values[np.isfinite(values) & (values > 0)]
    levels = np.geomspace(seen.min(), seen.max() * (1 + 1e-6), LEVELS)
    shown = np.ma.masked_invalid(values)
    x, y = np.meshgrid(plane["x"], plane["y"], indexing="ij")
    norm = LogNorm(levels[0], levels[-1])
    filled = axes.contourf(x, y, shown, levels, cmap=FIELD_MAP, norm=norm)
    axes.plot(0, 0, "+", color="white", ms=9, mew=1.6)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5))
    bar = figure.colorbar(filled, ax=axes, label="loss", pad=0.02)
    wide = levels[-1] > 30 * levels[0]
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 3) if wide else (1, 1.5, 2, 3, 5, 7)))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    return figure, axes, levels
