"""HTML pages that stand alone: filling templates, numbers as text."""

import math
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(template: str, context: dict) -> str:
    """Fill a template of this folder; every value is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(context)


def duration(seconds: float) -> str:
    """0.84 s, 5.2 s, 42 s, 12 min 5 s, 3 h 7 min."""
    if seconds < 10:
        return f"{number(seconds, 2)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def count(value: float) -> str:
    """1,192,801."""
    return f"{value:,.0f}"


def tally(counts: Mapping[str, int], most: int = 3) -> str:
    """The largest counts and how many more there are: `lifting (12), gate (3) and 2 more`."""
    order = sorted(counts, key=lambda name: -counts[name])
    text = ", ".join(f"{name} ({count(counts[name])})" for name in order[:most])
    return f"{text} and {len(order) - most} more" if len(order) > most else text


def column(values: list[float | None], digits: int = 3) -> list[str]:
    """Numbers of one table column with the same number of decimals, by the smallest of them."""
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v) and v != 0]
    if not sizes or max(sizes) > 1e4 * min(sizes):
        return [number(value, digits) for value in values]
    decimals = digits - 1 - math.floor(math.log10(min(sizes)))
    if not -4 <= decimals <= 6:
        return [number(value, digits) for value in values]
    return [
        f"{v:,.{max(decimals, 0)}f}" if v is not None and math.isfinite(v) else number(v)
        for v in values
    ]


def number(value: float | None, digits: int = 3) -> str:
    """Significant digits, without an exponent where it reads well; a dash for nothing."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    if value == 0:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    if -4 <= decimals <= 6:
        return f"{value:,.{max(decimals, 0)}f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
