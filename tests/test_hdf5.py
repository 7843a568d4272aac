"""Files from elsewhere: what reaches outside the file, or claims what it does not hold, is
refused.
"""

from unittest.mock import patch

import h5py
import numpy as np
import pytest

from datasets.hdf5 import inspect, open_file


@pytest.fixture
def secret(tmp_path):
    """A file that the user can read and that a data set has no business with."""
    path = tmp_path / "secret.h5"
    with h5py.File(path, "w") as file:
        file["key"] = np.arange(4.0)
    (tmp_path / "secret.bin").write_bytes(np.arange(4.0).tobytes())
    return path


def soft_link(file, secret):
    file["u"] = h5py.SoftLink("/elsewhere")


def external_link(file, secret):
    file["u"] = h5py.ExternalLink(str(secret), "/key")


def link_in_the_middle(file, secret):
    file.create_group("a/b")
    file["a/b/c"] = h5py.ExternalLink(str(secret), "/")


def virtual(file, secret):
    layout = h5py.VirtualLayout((4,), "f8")
    layout[:] = h5py.VirtualSource(str(secret), "key", (4,))
    file.create_virtual_dataset("u", layout)


def external_storage(file, secret):
    raw = str(secret.with_suffix(".bin"))
    file.create_dataset("u", shape=(4,), dtype="f8", external=[(raw, 0, 32)])


def objects(file, secret):
    file.create_dataset("u", data=["text"], dtype=h5py.string_dtype())


def references(file, secret):
    file["v"] = 1.0
    file.create_dataset("u", data=[file["v"].ref], dtype=h5py.ref_dtype)


def shape_bomb(file, secret):
    file.create_dataset("u", shape=(10**12,), dtype="f8", chunks=(1024,))


def plugin_filter(file, secret):
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((4,))
    creation.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))
    space = h5py.h5s.create_simple((4,))
    h5py.h5d.create(file.id, b"u", h5py.h5t.IEEE_F64LE, space, creation)


@pytest.mark.parametrize(
    "craft, complaint",
    [
        (soft_link, "/u is a soft or external link"),
        (external_link, "/u is a soft or external link"),
        (link_in_the_middle, "/a/b/c is a soft or external link"),
        (virtual, "/u takes its numbers from another file"),
        (external_storage, "/u takes its numbers from another file"),
        (objects, "/u holds object objects instead of numbers"),
        (references, "/u holds object objects instead of numbers"),
        (shape_bomb, r"/u declares 8000000000000 bytes \(shape .*\) but stores 0"),
        (plugin_filter, r"/u needs the HDF5 filter plug-ins \[32015\]"),
    ],
)
def test_crafted_files_are_refused(tmp_path, secret, craft, complaint):
    path = tmp_path / "crafted.h5"
    with h5py.File(path, "w") as file:
        craft(file, secret)
    with pytest.raises(ValueError, match=f"crafted.h5: {complaint}"):
        open_file(path)


@pytest.mark.parametrize("craft", [external_link, virtual, external_storage])
def test_hdf5_itself_hands_out_the_other_file(tmp_path, secret, craft):
    path = tmp_path / "crafted.h5"
    with h5py.File(path, "w") as file:
        craft(file, secret)
    with open_file(path, known=True) as file:
        assert file["u"][:].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_an_honest_file_passes(tmp_path):
    """Groups that contain themselves, compression, a large sparse field within reason."""
    path = tmp_path / "honest.h5"
    with h5py.File(path, "w") as file:
        file["a/u"] = np.arange(3.0)
        file["a/self"] = file["a"]
        file["a/again"] = file["a/u"]
        for name in ("gzip", "lzf"):
            file.create_dataset(name, data=np.zeros((9, 9)), compression=name, fletcher32=True)
        file.create_dataset("sparse", shape=(10**8,), dtype="f4", chunks=(1024,))
    with open_file(path) as file:
        inspect(file)
        assert file["a/self/u"][:].tolist() == [0.0, 1.0, 2.0]


def test_what_is_not_hdf5_is_named(tmp_path):
    path = tmp_path / "text.h5"
    path.write_text("no HDF5")
    with pytest.raises(ValueError, match="text.h5: not a readable HDF5 file"):
        open_file(path)
    with pytest.raises(ValueError, match="gone.h5: there is no such file"):
        open_file(tmp_path / "gone.h5")


@pytest.mark.parametrize("error", [KeyError("object"), RuntimeError("heap"), AttributeError("b")])
def test_altered_bytes_are_one_error(tmp_path, error):
    """h5py has many for names, trees and links that make no sense."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["u"] = np.arange(3.0)
    complaint = "a.h5: cannot be read, it may be damaged"
    with (
        patch("datasets.hdf5.inspect", side_effect=error),
        pytest.raises(ValueError, match=complaint),
    ):
        open_file(path)
