"""Does a configured value have the kind that a constructor's annotation asks for?"""

import math
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    NoneType: "null",
}
LISTS = (list, tuple, Sequence, Collection, Iterable)
NUMBERS = {bool: (bool,), int: (int, float, complex), float: (float, complex)}


def check_kinds(target: str, builder: type, values: Mapping[str, Any]) -> None:
    """ValueError naming the first of `values` that `builder` cannot mean, such as text for a
    number.

    Numbers, text, null, and lists and mappings of them are compared with the annotations of the
    constructor. What has no annotation passes, and so does what stands for an object.
    """
    hints = get_type_hints(builder.__init__)
    for name, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{target}: {name}={value} must be finite.")
        if name in hints and not fits(value, hints[name]):
            raise ValueError(f"{target}: {name}={value} must be {describe(hints[name])}.")


def fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is one of the annotated type. A whole number is a number; true is
    neither.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, part) for part in inner)
    if origin is Literal:
        return any(value == choice and type(value) is type(choice) for choice in inner)
    kind = origin or hint
    if kind in (Any, object) or not isinstance(kind, type):  # or a type variable
        return True
    if value is None:
        return kind is NoneType
    if type(value) in NUMBERS:
        return kind in NUMBERS[type(value)]
    if isinstance(value, str):
        return kind is str or issubclass(kind, os.PathLike)
    if isinstance(value, Mapping):
        if "_target_" in value:
            return kind not in WORDS
        values = inner[1:] or (Any,)
        return kind in (dict, Mapping) and all(fits(v, values[0]) for v in value.values())
    if isinstance(value, Sequence):
        if kind not in LISTS:
            return False
        if kind is tuple and inner and inner[-1] is not Ellipsis:
            return len(value) == len(inner) and all(map(fits, value, inner))
        return not inner or all(fits(item, inner[0]) for item in value)
    return True


def describe(hint: Any) -> str:
    """An annotation in words: `a whole number or null`."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(describe(part) for part in inner))
    if origin is Literal:
        return " or ".join(map(str, inner))
    if origin in LISTS and inner:
        many = origin is not tuple or inner[-1] is Ellipsis
        count = "" if many else f" of {len(inner)} entries"
        return f"a list{count} (each {describe(inner[0])})"
    return WORDS.get(hint, getattr(origin or hint, "__name__", str(hint)))
