"""Curves of a report as PNG in memory, drawn for 100 dots per inch and stored at twice that."""

import io
from collections.abc import Callable, Mapping
from functools import wraps

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from sciml.evaluation.rollout_errors import CORRELATED, RolloutErrors, half_width

# Okabe and Ito, "Color universal design" (2008): distinct for all common forms of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
# Perceptually uniform maps and a diverging one; 72 levels each leave room for greys in 256 colours.
INPUT_MAP, FIELD_MAP, ERROR_MAP = (
    colormaps[name].resampled(72) for name in ("cividis", "viridis", "RdBu_r")
)
INK = "#2b2f36"
STYLE = {
    "font.size": 9.5,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a9099",
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": False,
    "grid.color": "#e6e8eb",
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.7,
    "image.interpolation": "nearest",
    "figure.facecolor": "white",
}
SMALL = (4.7, 3.2)  # inches; two of these stand side by side on the page

Series = dict[str, tuple[np.ndarray, np.ndarray]]


def drawn(figure: Callable[..., Figure]) -> Callable[..., bytes]:
    """Draw in our style and return the bytes of a PNG."""

    @wraps(figure)
    def draw(*arguments) -> bytes:
        buffer = io.BytesIO()
        with rc_context(STYLE):
            figure(*arguments).savefig(buffer, format="png", dpi=200)
        return buffer.getvalue()

    return draw


@drawn
def learning_curve(quantity: str, curves: Series, best_epoch: int | None) -> Figure:
    """`curves` has (epoch, value) for `train` and `val`; the kept checkpoint is marked."""
    figure, axes = small()
    colours = {"train": COLOURS[0], "val": COLOURS[1]}
    for split, (epoch, value) in curves.items():
        marker = "o" if len(epoch) < 4 else None
        label = {"train": "training", "val": "validation"}[split]
        axes.plot(epoch, value, color=colours[split], marker=marker, ms=4, label=label)
    if best_epoch is not None:
        split = "val" if "val" in curves else "train"
        epoch, value = curves[split]
        label = f"kept checkpoint, epoch {best_epoch}"
        axes.axvline(best_epoch, color="#8a9099", lw=1, ls=(0, (3, 3)), zorder=0)
        axes.plot(epoch[epoch == best_epoch], value[epoch == best_epoch], "o", ms=6, label=label)
        axes.lines[-1].set_color(colours[split])
    log_scale(axes.set_yscale, axes.yaxis, [value for _, value in curves.values()])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set(xlabel="epoch", ylabel=quantity)
    axes.legend(loc="best")
    return figure


@drawn
def error_distribution(series: dict[str, np.ndarray]) -> Figure:
    """Empirical distributions of relative L2 errors [n]; medians and 95 % quantiles are marked."""
    figure, axes = small()
    for level in (0.5, 0.95):
        axes.axhline(level, color="#c9cdd2", lw=0.8, zorder=0)
    for colour, (label, errors) in zip(COLOURS, series.items(), strict=False):
        errors = 100 * np.sort(errors[~np.isnan(errors)])
        share = np.arange(1, len(errors) + 1) / max(len(errors), 1)
        axes.step(errors, share, where="post", color=colour, label=label)
        marks = [int(np.ceil(level * len(errors))) - 1 for level in (0.5, 0.95) if len(errors)]
        axes.plot(errors[marks], share[marks], "o", color=colour, ms=4.5)
    log_scale(axes.set_xscale, axes.xaxis, [100 * errors for errors in series.values()])
    axes.set(xlabel="relative L2 error (%)", ylabel="share of test samples", ylim=(0, 1.02))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.95], ["0", "25 %", "50 %", "75 %", "95 %"])
    if len(series) > 1:
        axes.legend(loc="lower right")
    return figure


@drawn
def error_spectrum(series: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Figure:
    """Mean energies of truth and error by wavenumber: (k, truth, error) by label, without k = 0."""
    figure, axes = small()
    several = len(series) > 1
    for number, (label, (k, truth, error)) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        other = colour if several else COLOURS[1]
        axes.plot(k[1:], truth[1:], color=colour, label=label if several else "truth")
        axes.plot(k[1:], error[1:], "--", color=other, label=None if several else "error")
    if several:
        axes.plot([], [], color=INK, label="truth")
        axes.plot([], [], "--", color=INK, label="error")
    shown = np.concatenate([np.concatenate(energies)[1:] for _, *energies in series.values()])
    if (shown > 0).any():
        top = shown.max()
        axes.set_yscale("log")
        log_scale(axes.set_xscale, axes.xaxis, [k[1:] for k, *_ in series.values()])
        axes.set_ylim(max(shown[shown > 0].min(), 1e-16 * top) / 2, 3 * top)
    axes.set(xlabel="wavenumber |k| (radian per length)", ylabel="energy per shell")
    axes.legend(loc="best")
    return figure


@drawn
def error_growth(series: Mapping[str, RolloutErrors]) -> Figure:
    """Mean errors over the time of a roll-out up to the first that blows up, beside no change."""
    figure, axes = small()
    shown = []
    for colour, (label, found) in zip(COLOURS, series.items(), strict=False):
        frames = range(1, found.error.shape[1] + 1)
        time = np.array([found.at(k, "time").mean() for k in frames])
        mean, still = (
            np.array([100 * found.at(k, name).mean() for k in frames])
            for name in ("error", "persistence")
        )
        width = np.array([100 * half_width(found.at(k)) for k in frames])
        marker = "o" if len(time) < 10 else None
        axes.plot(time, np.where(np.isfinite(mean), mean, np.nan), color=colour, marker=marker)
        axes.lines[-1].set(label=label, markersize=4)
        low, high = np.maximum(mean - width, 0), mean + width
        axes.fill_between(time, low, high, where=np.isfinite(high), color=colour, alpha=0.2, lw=0)
        axes.plot(time, still, "--", color=colour, lw=1.2)
        shown += [mean, still]
    log_scale(axes.set_yscale, axes.yaxis, shown)
    axes.set(xlabel="time since the input", ylabel="relative L2 error (%)")
    if len(series) > 1:
        axes.legend(loc="best")
    return figure


@drawn
def correlation(series: Mapping[str, RolloutErrors]) -> Figure:
    """Median and quartiles of the correlation over the time of a roll-out."""
    figure, axes = small()
    axes.axhline(CORRELATED, color="#c9cdd2", lw=0.8, zorder=0)
    for colour, (label, found) in zip(COLOURS, series.items(), strict=False):
        frames = range(1, found.error.shape[1] + 1)
        there = [k for k in frames if len(found.at(k, "correlation"))]
        time = [found.at(k, "time").mean() for k in there]
        values = [np.quantile(found.at(k, "correlation"), (0.25, 0.5, 0.75)) for k in there]
        low, middle, high = np.array(values).reshape(-1, 3).T
        axes.plot(time, middle, color=colour, label=label)
        axes.fill_between(time, low, high, color=colour, alpha=0.2, lw=0)
    axes.set(xlabel="time since the input", ylabel="correlation", ylim=(None, 1.02))
    if len(series) > 1:
        axes.legend(loc="best")
    return figure


def small() -> tuple[Figure, Axes]:
    figure = Figure(figsize=SMALL, layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, which="major")
    axes.set_axisbelow(True)
    return figure, axes


def log_scale(set_scale: Callable, axis: Axis, arrays: list[np.ndarray]) -> None:
    """Logarithmic with plain numbers as tick labels, where the values allow it."""
    values = np.concatenate(arrays)
    values = values[np.isfinite(values)]
    if len(values) == 0 or values.min() <= 0:
        return
    decades = np.log10(values.max() / values.min())
    set_scale("log")
    steps = LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,))
    axis.set_major_locator(steps if decades > 0.7 else MaxNLocator(5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
