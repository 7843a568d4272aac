"""PDEArena's shallow water on the sphere: a Zarr folder for each split, such as train.zarr.

    u, v, vor [n, t, level, lat, lon], pres [n, t, lat, lon]; lat, lon, time

Gupta & Brandstetter, Towards multi-spatiotemporal-scale generalized PDE modeling, TMLR 2023. Needs
the extra `export` (zarr).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datasets.schema import SPLITS, Field, Metadata
from datasets.uniform import axis, median_step, times
from solvers.grid import Grid

if TYPE_CHECKING:
    import zarr

EXTRA = "export"
CODECS = {
    *("blosc", "bytes", "bz2", "crc32c", "gzip", "lz4", "shuffle", "transpose", "zlib", "zstd"),
    *("numcodecs.blosc", "numcodecs.shuffle", "numcodecs.zlib", "numcodecs.zstd", "fletcher32"),
}
STATE = ("pres", "u", "v", "vor")
GAUSSIAN = 0.05  # of a distance: Gaussian latitudes are that close to equidistant ones


class PDEArenaZarr:
    """Trajectories of one such folder (`Trajectories`), read frame by frame.

    The fields are those of pres, u, v and vor that are there, at one level. Latitudes ascend and
    are taken as equidistant, which Gaussian ones nearly are, open at the poles; longitudes are
    periodic; both in the units of the file. `without` names fields that are left out. Frames are
    cast to `dtype` once.

    Raises ValueError where zarr is not installed, for codecs outside `CODECS` (others can run
    code), links, packed numbers (scale_factor), shapes that do not fit, and, when they are read,
    NaN or infinity.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        without: Sequence[str] = (),
        dtype: torch.dtype = torch.float32,
    ):
        self.path, self.dtype = Path(path), dtype
        self._arrays: dict[str, Any] = {}
        self._pid = os.getpid()
        for folder, folders, names in os.walk(self.path):
            for name in (*folders, *names):
                if os.path.islink(os.path.join(folder, name)):
                    raise ValueError(f"{folder}/{name}: is a link; refused.")
        group = _group(self.path)
        self._names = [
            n for n in STATE if n not in without and _member(group, n, self.path) is not None
        ]
        if not self._names:
            raise ValueError(f"{path}: none of {', '.join(STATE)} is here.")
        lat, lon = (_coordinates(self._array(name), self.path) for name in ("lat", "lon"))
        self._flipped = bool(lat[0] > lat[-1])
        clock = _coordinates(self._array("time"), self.path).astype(np.float64)
        shape = (len(clock), len(lat), len(lon))
        counts = {self._frames(name, shape) for name in self._names}
        if len(counts) > 1:
            raise ValueError(
                f"{path}: fields of {sorted(counts)} trajectories; expected one number."
            )
        self._size = counts.pop()
        self._times = times(clock, f"{path}: time")
        where = f"{path}: "
        self.metadata = Metadata(
            name="pdearena",
            input_fields=(),
            target_fields=tuple(Field(name) for name in self._names),
            grid=Grid(
                (
                    axis("lat", np.sort(lat), ("open", "open"), where + "lat", slack=GAUSSIAN),
                    axis("lon", lon, ("periodic", "periodic"), where + "lon"),
                )
            ),
            dt=median_step(self._times),
            num_frames=len(clock),
            provenance={"layout": "PDEArena, shallow water", "files": self.path.name},
        )

    def __len__(self) -> int:
        return self._size

    def times(self, index: int) -> np.ndarray:
        return self._times

    def read(self, index: int, frames: slice) -> Tensor:
        if not 0 <= index < self._size:
            raise IndexError(f"trajectory {index} of {self._size} in {self.path}.")
        blocks = []
        for name in self._names:
            block = np.asarray(self._array(name)[index, frames])
            blocks.append(block[:, 0] if block.ndim == 4 else block)
        found = np.stack(blocks, axis=1)
        found = found[:, :, ::-1].copy() if self._flipped else found
        u = torch.from_numpy(found).to(self.dtype)
        if not bool(torch.isfinite(u).all()):
            frame, channel = (~torch.isfinite(u)).nonzero()[0, :2].tolist()
            frame = (frames.start or 0) + frame * (frames.step or 1)
            raise ValueError(
                f"{self.path}: {self._names[channel]}, row {index}, frame {frame}: expected finite "
                f"numbers in {self.dtype}, found NaN or infinity."
            )
        return u

    def constants(self, index: int) -> Tensor:
        return torch.empty(0, *self.metadata.grid.shape, dtype=self.dtype)

    def parameters(self, index: int) -> Tensor:
        return torch.empty(0, dtype=self.dtype)

    def _array(self, name: str) -> "zarr.Array":
        """Looked up once per process."""
        if self._pid != os.getpid():
            self._arrays, self._pid = {}, os.getpid()
        if name not in self._arrays:
            found = _member(_group(self.path), name, self.path)
            if found is None:
                raise ValueError(f"{self.path}: {name} is missing.")
            self._arrays[name] = _safe(found, f"{self.path}: {name}")
        return self._arrays[name]

    def _frames(self, name: str, shape: tuple[int, int, int]) -> int:
        """The number of trajectories of a field."""
        found = self._array(name).shape
        if found[1:] not in (shape, (shape[0], 1, *shape[1:])):
            raise ValueError(
                f"{self.path}: {name} has shape {found}; expected [trajectory, time, (level,) lat, "
                f"lon] with {shape} and one level."
            )
        return found[0]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_arrays": {}}


def zarr_splits(path: Path) -> dict[str, Path]:
    """The Zarr folders in a folder by the split that their names say, such as train.zarr."""
    found = sorted(path.glob("*.zarr")) if path.is_dir() else []
    named = {split: [p for p in found if split in p.name] for split in SPLITS}
    return {split: folders[0] for split, folders in named.items() if folders}


def _group(path: Path) -> "zarr.Group":
    try:
        import zarr
    except ImportError as error:
        raise ValueError(
            f"{path}: zarr is not installed ({error}): pip install '.[{EXTRA}]' installs what this "
            "needs."
        ) from error
    if not path.is_dir():
        raise ValueError(f"{path}: there is no such folder.")
    try:
        return zarr.open_group(str(path), mode="r")
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: not a readable Zarr group ({error}).") from error


def _member(group: "zarr.Group", name: str, path: Path) -> Any:
    """An array of a group, None where there is none."""
    try:
        return group[name]
    except KeyError:
        return None
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {name} is not a readable array ({error}).") from error


def _safe(array: "zarr.Array", where: str) -> "zarr.Array":
    """The array, if nothing in its description asks for more than numbers."""
    codecs = (*array.filters, *array.compressors, array.serializer)
    names = {_name(codec) for codec in codecs if codec is not None}
    if array.dtype.kind not in "iuf" or names - CODECS:
        raise ValueError(
            f"{where} holds {array.dtype} with the codecs {sorted(names)}; expected plain numbers "
            f"with {', '.join(sorted(CODECS))}."
        )
    if "scale_factor" in array.attrs or "add_offset" in array.attrs:
        raise ValueError(f"{where} holds packed numbers (scale_factor); write them unpacked.")
    return array


def _name(codec: Any) -> str:
    """Of a codec of either Zarr format."""
    if hasattr(codec, "codec_id"):
        return codec.codec_id
    return codec.to_dict()["name"]


def _coordinates(array: "zarr.Array", path: Path) -> np.ndarray:
    if len(array.shape) != 1 or 0 in array.shape:
        raise ValueError(f"{path}: {array.basename} has shape {array.shape}; expected one axis.")
    return np.asarray(array[:])
