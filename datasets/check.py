"""`python -m datasets.check PATH`: is a data set, or a file in The Well's layout, in order?"""

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from datasets.conformance import FIELD_GROUPS, SPACING, problems
from datasets.hdf5 import open_file
from datasets.manifest import Manifest, Shard
from datasets.quarantine import Stuck, apart
from datasets.schema import SPLITS


class Finding(NamedTuple):
    """`level` is ok, warning or failed; `subject` the file or split it is about."""

    level: str
    subject: str
    detail: str


def check(path: Path | str) -> list[Finding]:
    """Findings about a data set folder or a single file, which may be damaged in any way."""
    path = Path(path)
    if path.is_dir():
        return list(_check_folder(path))
    found: list[Finding | str] = []
    try:
        for item in apart(_check_file, path, path.name):
            found.append(item)
    except Stuck as error:
        found.append(Finding("failed", path.name, str(error)))
    findings, inputs = _parted(found)
    return findings + list(_repetitions({path.name: inputs}))


def _check_folder(folder: Path) -> Iterator[Finding]:
    try:
        manifest = Manifest(folder)
    except ValueError as error:
        yield Finding("failed", "manifest", str(error))
        return
    text = f"{len(manifest.shards)} shards, {manifest.metadata.describe()}"
    yield Finding("ok", "manifest", text)
    inputs: dict[str, list[str]] = {}
    for split in SPLITS:
        inputs[split], expected = [], manifest.header.counts[split]
        listed = sum(shard.samples[1] - shard.samples[0] for shard in manifest.of(split))
        if listed != expected:
            text = f"{listed} of {expected} samples are there. {manifest.remedy}"
            yield Finding("failed", split, text)
    for shard in manifest.shards:
        try:
            path = manifest.verify(shard)
        except ValueError as error:
            yield Finding("failed", shard.file, str(error))
            continue
        findings, hashes = _parted(_check_file(path, shard.file))
        inputs[shard.split] += hashes
        yield from findings
        yield from _against_manifest(path, shard, manifest)
    known = {folder / shard.file for shard in manifest.shards}
    for stray in sorted(set((folder / "data").rglob("*.h5")) - known):
        yield Finding(
            "warning", str(stray.relative_to(folder)), "not in the manifest: not read by us"
        )
    yield from _repetitions(inputs)


def _check_file(path: Path, subject: str) -> Iterator[Finding | str]:
    """Findings about one file and, between them, a hash of the input of each of its samples."""
    try:
        with open_file(path) as file:
            found = [Finding("failed", subject, problem) for problem in problems(file)]
            yield from found
            if found:
                return
            rows, columns = range(int(file.attrs["n_trajectories"])), _columns(file)
            for row in rows:
                values = {c.name: c.data[row] if c.by_sample else c.data[()] for c in columns}
                found += _check_sample(columns, values, row, subject)
                yield _input_hash(columns, values)
            yield from found or [Finding("ok", subject, f"{len(rows)} samples")]
    except (ValueError, OSError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        yield Finding("failed", subject, str(error))


def _parted(found: Iterable[Finding | str]) -> tuple[list[Finding], list[str]]:
    """Findings and hashes apart."""
    items = list(found)
    findings = [item for item in items if isinstance(item, Finding)]
    return findings, [item for item in items if isinstance(item, str)]


class _Column(NamedTuple):
    """A field, or a scalar, of a file."""

    name: str
    data: h5py.Dataset
    is_field: bool
    by_sample: bool
    in_time: bool


def _columns(file: h5py.File) -> list[_Column]:
    columns = []
    for group in (*FIELD_GROUPS, "scalars"):
        for name in file[group].attrs["field_names"]:
            data = file[group][name]
            flags = (bool(data.attrs[f"{kind}_varying"]) for kind in ("sample", "time"))
            columns.append(_Column(f"{group}/{name}", data, group != "scalars", *flags))
    return columns


def _check_sample(
    columns: Sequence[_Column], values: Mapping[str, np.ndarray], row: int, subject: str
) -> Iterator[Finding]:
    """Finite numbers; a solution that is constant in space fails, a coefficient gets a warning."""
    for column in columns:
        value, where = values[column.name], f"sample {row}, {column.name}"
        if not np.isfinite(value).all():
            yield Finding("failed", subject, f"{where}: NaN or infinity")
        elif column.is_field and column.by_sample and np.ptp(value) == 0:
            level = "failed" if column.in_time else "warning"
            yield Finding(level, subject, f"{where}: constant, {value.flat[0]:.4g}")


def _input_hash(columns: Sequence[_Column], values: Mapping[str, np.ndarray]) -> str:
    """sha256 of what the solution of a sample follows from.

    These are its scalars and its fields that do not change in time, and the first frame of the
    others, unless that is the only one beside a coefficient: then it is the steady solution.
    """
    digest = hashlib.sha256()
    has_coefficient = any(c.is_field and c.by_sample and not c.in_time for c in columns)
    for column in columns:
        value = values[column.name]
        if not column.by_sample:
            continue
        if not column.in_time:
            digest.update(value.tobytes())
        elif not (has_coefficient and len(value) == 1):
            digest.update(value[0].tobytes())
    return digest.hexdigest()


def _against_manifest(path: Path, shard: Shard, manifest: Manifest) -> Iterator[Finding]:
    with open_file(path) as file:
        fields = (column.data for column in _columns(file) if column.is_field)
        shapes = {data.name.rsplit("/")[-1]: list(data.shape) for data in fields}
        if shapes != shard.shapes:
            yield Finding("failed", shard.file, f"holds {shapes}, listed are {shard.shapes}")
        for axis in manifest.metadata.grid.axes:
            found, listed = file["dimensions"][axis.name][:], axis.coordinates().numpy()
            if found.shape != listed.shape or np.abs(found - listed).max() > SPACING * axis.spacing:
                yield Finding("failed", shard.file, f"axis {axis.name} is not that of the manifest")


def _repetitions(inputs: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """The same input twice: within a split a duplicate, in two splits a leak."""
    first: dict[str, tuple[str, int]] = {}
    for split, hashes in inputs.items():
        for index, digest in enumerate(hashes):
            other, number = first.setdefault(digest, (split, index))
            if (other, number) != (split, index):
                kind = "duplicate" if other == split else "leak"
                text = f"{kind}: sample {index} has the input of {other} sample {number}"
                yield Finding("failed", split, text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each path; 0 when nothing failed, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m datasets.check", description=__doc__)
    help = "folders of data sets, or HDF5 files"
    parser.add_argument("paths", type=Path, nargs="+", metavar="path", help=help)
    colours = {"ok": "green", "warning": "yellow", "failed": "red"}
    failed = False
    for path in parser.parse_args(arguments).paths:
        findings = check(path)
        table = Table("", "where", "what", title=str(path))
        for level, subject, detail in findings:
            table.add_row(f"[{colours[level]}]{level}[/]", escape(subject), escape(detail))
        Console().print(table)
        failed |= any(finding.level == "failed" for finding in findings)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
