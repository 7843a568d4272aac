"""What a sample is: `Batch` holds the numbers, `Metadata` says what they mean."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from solvers.grid import Axis, Grid

SPLITS = ("train", "valid", "test")


class Batch(NamedTuple):
    """b samples on one grid; c counts the components of all fields in the order of the metadata.

    input [b, c_in, *space], target [b, c_out, *space], parameters [b, p] (p may be 0),
    coordinates [ndim, *space] (shared by the samples).
    """

    input: Tensor
    target: Tensor
    parameters: Tensor
    coordinates: Tensor


@dataclass(frozen=True)
class Field:
    """A named physical field; a vector field has one component per space dimension."""

    name: str
    units: str = "1"
    components: int = 1


class Frames(NamedTuple):
    """How a window of a solution over time lies in the channels of a sample.

    Input channels: `history` frames of `channels` each, the oldest first, then fields that are
    constant in time and parameters, among them the lead time in channel number `lead` if it
    differs from sample to sample. Target channels: `horizon` frames. `dt` is the time from frame
    to frame, None where it differs between windows; inside a window frames are `even` or not. A
    steady map is one frame in, of all channels, and one out.
    """

    history: int
    horizon: int
    channels: int
    dt: float | None = None
    lead: int | None = None
    even: bool = True


@dataclass(frozen=True)
class Metadata:
    """Everything a model, a loss and a report need to know about a data set.

    Of a map, `input_fields` are what it takes and `target_fields` what it gives. Of solutions over
    time the target fields change in time and the input fields do not; `dt` is the time between
    frames and `num_frames` their number, both None for a steady map. `provenance` is free-form
    text by key (recipe, solver, solver version, seed, source file ...), shown in the report and
    never interpreted. `window` says of pairs that were cut from a solution over time which frames
    they are.
    """

    name: str
    input_fields: tuple[Field, ...]
    target_fields: tuple[Field, ...]
    grid: Grid
    parameters: tuple[str, ...] = ()
    dt: float | None = None
    num_frames: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    window: Frames | None = None

    @property
    def frames(self) -> Frames:
        """Those of the window; a map without time is one frame in and one frame out."""
        return self.window or Frames(1, 1, self.in_channels)

    @property
    def in_channels(self) -> int:
        return sum(f.components for f in self.input_fields)

    @property
    def out_channels(self) -> int:
        return sum(f.components for f in self.target_fields)

    @property
    def ndim(self) -> int:
        return self.grid.ndim

    def describe(self) -> str:
        """One line, such as `permeability -> pressure on 64 x 64`."""
        names = [", ".join(f.name for f in fs) for fs in (self.input_fields, self.target_fields)]
        space = f"on {' x '.join(map(str, self.grid.shape))}"
        if self.num_frames is None:
            return f"{names[0]} -> {names[1]} {space}"
        constant = f", constant {names[0]}," if names[0] else ""
        return f"{self.num_frames} frames of {names[1]}{constant} {space}, dt {self.dt:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars, as JSON holds them; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Metadata":
        """Raises ValueError when an entry is missing, unknown or of the wrong kind."""
        try:
            values = dict(record)
            for key in ("input_fields", "target_fields"):
                values[key] = tuple(Field(**entry) for entry in values[key])
            values["grid"] = Grid(tuple(Axis(**axis) for axis in values["grid"]["axes"]))
            values["parameters"] = tuple(values["parameters"])
            if values.get("window") is not None:
                values["window"] = Frames(*values["window"])
            return cls(**values)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"metadata is not what Metadata.to_dict writes: {error!r}. Make the data set again."
            ) from error


class Source(Protocol):
    """A readable collection of samples on one grid, addressed by integer.

    `__getitems__` reads many samples at once: torch's DataLoader calls it with the indices of a
    batch.
    """

    metadata: Metadata

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[int]) -> Batch: ...


class DataSet(Protocol):
    """Training, validation and test samples of one problem: what `data=...` builds.

    `source` gives a split ("train", "valid" or "test"), of the test split also on another grid
    where that is possible (ValueError where it is not). `facts` is for the report, as plain
    values: name, path, hash (of the files, or of the recipe that makes them), splits (samples by
    split), split (how they were divided), train_files and test_files (sha256 of the files that
    samples are divided among, none where a division cannot change), description and provenance.
    """

    def source(self, split: str, resolution: int | Sequence[int] | None = None) -> Source: ...

    def facts(self) -> dict[str, Any]: ...


@runtime_checkable
class Streamed(Protocol):
    """A data set whose training batches come from a loader of its own, once, in epochs of equal
    length. Its training split is what is there before the first of them.
    """

    def loader(self) -> Iterable[Batch]: ...

    def close(self) -> None:
        """End whatever computes them."""
        ...
