"""What a file of another project holds: found once, from its datasets' names, shapes and
attributes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import h5py
import numpy as np

from datasets.schema import Field, Metadata

SPACE = "xyz"
ORDER = "tijxyz"
MEANING = {"n": "trajectories", "t": "frames", "i": "components", "j": "components"}


@dataclass(frozen=True)
class Variable:
    """A dataset whose numbers are fields, and what its axes are, one letter each.

        n  trajectory    t  frame    i j  component    x y z  space, in the order of the grid

    A dataset without n is shared by all trajectories, one without t does not change, and one
    without a letter of space does not vary along that axis. `path` has {} where each trajectory
    has a group of its own. `fields` share the components in their order.
    """

    fields: tuple[Field, ...]
    path: str
    axes: str

    @property
    def components(self) -> int:
        return sum(f.components for f in self.fields)

    def block(self, dataset: h5py.Dataset, row: int, frames: slice | None, ndim: int) -> np.ndarray:
        """Frames [t, components, *space] of a trajectory, without t of what does not change; size
        1 where it does not vary.
        """
        index = tuple(row if a == "n" else frames if a == "t" else slice(None) for a in self.axes)
        found, left = dataset[index], self.axes.replace("n", "")
        found = np.asarray(found)
        order = sorted(range(len(left)), key=lambda k: ORDER.index(left[k]))
        sizes = tuple(found.shape[left.index(a)] if a in left else 1 for a in SPACE[:ndim])
        lead = (found.shape[left.index("t")],) if "t" in left else ()
        return found.transpose(order).reshape(*lead, self.components, *sizes)


@dataclass(frozen=True)
class Content:
    """What one file holds.

    `state` are the variables of the target fields of `metadata`, `constants` those of its input
    fields, in their order; `parameters` [rows, p]; `times` [t] or [rows, t], None of a steady map;
    `groups` are names of the trajectories where each has a group.
    """

    metadata: Metadata
    rows: int
    state: tuple[Variable, ...]
    constants: tuple[Variable, ...]
    parameters: np.ndarray
    times: np.ndarray | None
    groups: tuple[str, ...] = ()


@dataclass
class Survey:
    """Looks up datasets of a file and compares their sizes; a complaint names file, dataset, what
    was expected and what was found.
    """

    file: h5py.File | h5py.Group
    name: str
    sizes: dict[str, tuple[int, str]] = field(default_factory=dict)

    def dataset(self, path: str, axes: str, *, spare: str = "") -> h5py.Dataset:
        """A dataset of numbers with these axes; along those in `spare` it may be one longer."""
        found = self.file.get(path)
        if not isinstance(found, h5py.Dataset):
            state = "is missing" if found is None else "is a group, not a dataset"
            raise ValueError(f"{self.name}: {path} {state}; expected numbers [{self.words(axes)}].")
        if found.dtype.kind not in "biuf":
            raise ValueError(f"{self.name}: {path} holds {found.dtype}; expected real numbers.")
        if len(found.shape) != len(axes):
            raise ValueError(
                f"{self.name}: {path} has shape {found.shape}; expected [{self.words(axes)}]."
            )
        for letter, size in zip(axes, found.shape, strict=True):
            known, origin = self.sizes.setdefault(letter, (size, path))
            if size != known and not (letter in spare and size == known + 1):
                raise ValueError(
                    f"{self.name}: {path} has {size} {MEANING.get(letter, 'points')} along its "
                    f"axis {letter}; expected {known} as in {origin} (shape {found.shape})."
                )
        if 0 in found.shape:
            raise ValueError(f"{self.name}: {path} has shape {found.shape}: it holds no numbers.")
        return found

    def variable(self, path: str, axes: str, fields: Sequence[Field]) -> Variable:
        """The dataset as fields, after `dataset`."""
        self.dataset(path, axes)
        return Variable(tuple(fields), path, axes)

    def size(self, letter: str) -> int:
        return self.sizes[letter][0]

    @staticmethod
    def words(axes: str) -> str:
        return ", ".join(
            {"n": "trajectory", "t": "time", "i": "c", "j": "c"}.get(a, a) for a in axes
        )


def numbers(attributes: Mapping[str, object]) -> tuple[dict[str, float], dict[str, str]]:
    """Attributes that are single finite numbers, and the others as short text."""
    values, words = {}, {}
    for name, value in attributes.items():
        array = np.asarray(value)
        if array.size == 1 and array.dtype.kind in "iuf" and np.isfinite(array).all():
            values[name] = float(array.reshape(()))
        else:
            words[name] = text(value)[:200]
    return values, words


def text(value: object) -> str:
    """An attribute as text: HDF5 gives str, bytes or arrays of them."""
    array = np.asarray(value)
    single = array.reshape(-1)[0] if array.size == 1 else value
    return single.decode(errors="replace") if isinstance(single, bytes) else str(single)
