"""Opening HDF5 files that may come from anywhere: nothing in them may reach outside the file."""

from collections.abc import Iterator
from pathlib import Path

import h5py

MAX_BYTES = 4 * 2**30
MAX_RATIO = 1000
LZF = 32000
DAMAGE = (OSError, KeyError, RuntimeError, AttributeError, TypeError)  # h5py, on altered bytes
FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32, LZF}


def open_file(path: Path | str, *, known: bool = False, cache_bytes: int = 2**20) -> h5py.File:
    """Open an HDF5 file for reading and, unless it is `known`, inspect it (see `inspect`).

    `cache_bytes` bounds the chunk cache of each dataset of the handle: HDF5's own default is 8
    MiB, and it is paid per dataset, per file and per process. Files are taken as immutable, so no
    lock is asked for. Raises ValueError for what is not HDF5 and for what `inspect` refuses.
    """
    try:
        file = h5py.File(path, "r", rdcc_nbytes=cache_bytes, locking=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file ({error}).") from error
    try:
        if not known:
            inspect(file)
    except DAMAGE as error:
        file.close()
        raise ValueError(f"{path}: cannot be read, it may be damaged ({error}).") from error
    except BaseException:
        file.close()
        raise
    return file


def inspect(file: h5py.File) -> None:
    """Refuse links and storage outside the file, virtual datasets, plug-in filters and shape bombs.

    HDF5 follows soft and external links and reads external raw storage by design, so a file from
    elsewhere could hand out any file that the user can read; filters outside `FILTERS` load native
    code; a dataset may declare terabytes that it does not hold (more than `MAX_BYTES` and
    `MAX_RATIO` times what is stored). Raises ValueError that names the file and the object.
    """
    for dataset in _datasets(file, file, seen=set()):
        where = f"{file.filename}: {dataset.name}"
        if dataset.is_virtual or dataset.external:
            raise ValueError(f"{where} takes its numbers from another file; refused.")
        if dataset.dtype.hasobject:
            raise ValueError(f"{where} holds {dataset.dtype} objects instead of numbers; refused.")
        creation = dataset.id.get_create_plist()
        used = {creation.get_filter(i)[0] for i in range(creation.get_nfilters())}
        if used - FILTERS:
            raise ValueError(
                f"{where} needs the HDF5 filter plug-ins {sorted(used - FILTERS)}; refused. "
                "Rewrite the file with gzip, lzf or no compression."
            )
        stored = dataset.id.get_storage_size()
        if dataset.nbytes > max(MAX_BYTES, MAX_RATIO * stored):
            raise ValueError(
                f"{where} declares {dataset.nbytes} bytes (shape {dataset.shape}) but stores "
                f"{stored}; refused."
            )


def _datasets(file: h5py.File, group: h5py.Group, seen: set[int]) -> Iterator[h5py.Dataset]:
    """Every dataset below `group` once; hard links may form cycles, other links are refused."""
    for name in group:
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            where = f"{file.filename}: {group.name.rstrip('/')}/{name}"
            raise ValueError(f"{where} is a soft or external link; refused.")
        node = group[name]
        address = h5py.h5o.get_info(node.id).addr
        if address in seen:
            continue
        seen.add(address)
        if isinstance(node, h5py.Group):
            yield from _datasets(file, node, seen)
        elif isinstance(node, h5py.Dataset):
            yield node
