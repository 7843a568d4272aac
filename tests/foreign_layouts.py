"""Small files in the layouts of other projects, written as those projects describe them."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import yaml

RNG = np.random.default_rng


def cells(n: int, lower: float = 0.0, upper: float = 1.0) -> np.ndarray:
    return (lower + (np.arange(n) + 0.5) * (upper - lower) / n).astype("f4")


def smooth(*shape: int, seed: int = 0, dtype: str = "f4") -> np.ndarray:
    """Random numbers away from zero, all different."""
    return (1 + 0.5 * RNG(seed).random(shape)).astype(dtype)


def equation(path: Path, n=6, t=8, x=16, **attributes) -> Path:
    """PDEBench's advection: one time coordinate more than frames."""
    with h5py.File(path, "w") as file:
        file["tensor"] = smooth(n, t, x)
        file["x-coordinate"] = cells(x)
        file["t-coordinate"] = np.linspace(0, 0.1 * t, t + 1).astype("f4")
        file.attrs.update({"beta": np.float64(0.4), "comment": "made by hand", **attributes})
    return path


def flow(path: Path, n=6, t=5, space=(8, 10)) -> Path:
    """PDEBench's compressible flow in 1 to 3 dimensions."""
    with h5py.File(path, "w") as file:
        names = ["density", "pressure", *("Vx", "Vy", "Vz")[: len(space)]]
        for k, name in enumerate(names):
            file[name] = smooth(n, t, *space, seed=k)
        for name, size in zip("xyz", space, strict=False):
            file[f"{name}-coordinate"] = cells(size)
        file["t-coordinate"] = np.linspace(0, 1, t + 1).astype("f4")
        file.attrs.update({"eta": 0.01, "zeta": 0.01, "M": 0.1})
    return path


def darcy(path: Path, n=6, x=8, y=8) -> Path:
    with h5py.File(path, "w") as file:
        file["nu"] = smooth(n, x, y)
        file["tensor"] = smooth(n, 1, x, y, seed=1)
        file["x-coordinate"], file["y-coordinate"] = cells(x), cells(y)
        file.attrs["beta"] = 1.0
    return path


def seeds(path: Path, n=6, t=5, space=(8, 8), c=2) -> Path:
    """PDEBench's reaction-diffusion: compressed, one group and one configuration for each seed."""
    with h5py.File(path, "w") as file:
        for row in range(n):
            group = file.create_group(f"{row:04d}")
            group.create_dataset("data", data=smooth(t, *space, c, seed=row), compression="lzf")
            for name, size in zip("xy", space, strict=False):
                group[f"grid/{name}"] = cells(size, -1, 1)
            group["grid/t"] = np.linspace(0, 5, t).astype("f4")
            settings = {"sim": {"Du": 0.001, "k": 0.005 + 0.001 * row, "seed": row}, "out": "x.h5"}
            group.attrs["config"] = yaml.safe_dump(settings)
    return path


def incompressible(path: Path, n=6, t=5, x=8, y=8) -> Path:
    with h5py.File(path, "w") as file:
        chunk = (1, 1, x, y)
        options = {"compression": "lzf", "shuffle": True}
        velocity, particles = smooth(n, t, x, y, 2), smooth(n, t, x, y, 1, seed=1)
        file.create_dataset("velocity", data=velocity, chunks=(*chunk, 2), **options)
        file.create_dataset("particles", data=particles, chunks=(*chunk, 1), **options)
        file["force"] = smooth(n, x, y, 2, seed=2)
        file["t"] = np.tile(np.linspace(0, 1, t), (n, 1)).astype("f4")
        file.attrs.update({"config": "nu: 0.01\n", "latestIndex": n - 1})
    return path


def smoke(path: Path, split: str = "train", n=6, t=5, x=8, y=8) -> Path:
    """PDEArena's flow: float64."""
    with h5py.File(path, "w") as file:
        group = file.create_group(split)
        for k, name in enumerate(("u", "vx", "vy")):
            group[name] = smooth(
                n, t, x, y, seed=k + sum(map(ord, split)), dtype="f8" if k else "f4"
            )
        group["t"] = np.tile(18 + 1.5 * np.arange(t), (n, 1))
        group["x"], group["y"] = np.tile(cells(x, 0, 32), (n, 1)), np.tile(cells(y, 0, 32), (n, 1))
        group["dt"], group["dx"], group["dy"] = np.full(n, 1.5), np.full(n, 4.0), np.full(n, 4.0)
        group["buo_y"] = RNG(9).random(n)
    return path


def series(path: Path, split: str = "train", n=6, t=7, x=16, same: bool = False) -> Path:
    """PDEArena's Kuramoto-Sivashinsky: steps in space and time differ between trajectories."""
    with h5py.File(path, "w") as file:
        group = file.create_group(split)
        group["pde_traj"] = smooth(n, t, x, dtype="f8", seed=sum(map(ord, split)))
        vary = np.zeros(n) if same else 0.01 * np.arange(n)
        group["dt"], group["dx"] = 0.2 + vary, 0.25 + vary
        group["v"] = 1 + vary
    return path


def pairs(path: Path, n=6, space=(8, 8), c: int | None = None) -> Path:
    """neuraloperator's pairs."""
    with h5py.File(path, "w") as file:
        file["x"] = RNG(0).random((n, *space)) > 0.5
        file["y"] = smooth(n, *(() if c is None else (c,)), *space)
    return path


def well(path: Path, n=3, t=6, x=8, y=6, kept: tuple[int, ...] = ()) -> Path:
    """The Well's layout with all that may vary or not. An axis along which a field does not vary
    is absent, or of size 1 with `kept=(1,)`.
    """
    with h5py.File(path, "w") as file:
        file.attrs.update({"dataset_name": "handmade", "grid_type": "cartesian", "Re": 100.0})
        file.attrs.update({"n_spatial_dims": 2, "n_trajectories": n})
        file.attrs["simulation_parameters"] = ["Re"]
        dimensions = file.create_group("dimensions")
        dimensions.attrs["spatial_dims"] = ["x", "y"]
        dimensions["time"] = (0.5 + 0.1 * np.arange(t)).astype("f4")
        dimensions["x"] = np.linspace(0, 1, x, endpoint=False).astype("f4")
        dimensions["y"] = cells(y, -1, 1)
        for name in ("time", "x", "y"):
            dimensions[name].attrs.update({"sample_varying": False, "time_varying": name == "time"})
        sides = file.create_group("boundary_conditions")
        for axis, size, kind in (("x", x, "PERIODIC"), ("y", y, "WALL")):
            side = sides.create_group(f"{axis}_{kind.lower()}")
            side.attrs.update({"associated_dims": [axis], "associated_fields": []})
            side.attrs.update({"bc_type": kind, "sample_varying": False, "time_varying": False})
            mask = np.zeros(size, dtype=bool)
            mask[[0, -1]] = True
            side["mask"] = mask
        groups = {k: file.create_group(k) for k in ("scalars", *(f"t{r}_fields" for r in range(3)))}

        def put(group, name, shape, seed, n_varies, t_varies, dims=(True, True)):
            data = groups[group].create_dataset(name, data=smooth(*shape, seed=seed))
            data.attrs.update({"sample_varying": n_varies, "time_varying": t_varies})
            if group != "scalars":
                data.attrs["dim_varying"] = list(dims)
            if group == "t2_fields":
                data.attrs.update({"symmetric": True, "antisymmetric": False})

        put("scalars", "viscosity", (n,), 1, True, False)
        put("scalars", "gravity", (), 2, False, False)
        put("t0_fields", "density", (n, t, x, y), 3, True, True)
        put("t0_fields", "inflow", (n, t, *kept, y), 4, True, True, (False, True))
        put("t0_fields", "clock", (t, x, y), 5, False, True)
        put("t0_fields", "floor", (x, *kept), 6, False, False, (True, False))
        put("t1_fields", "velocity", (n, t, x, y, 2), 7, True, True)
        put("t1_fields", "wind", (n, x, y, 2), 8, True, False)
        put("t2_fields", "stress", (n, t, x, y, 2, 2), 9, True, True)
        for group in groups.values():
            group.attrs["field_names"] = list(group)
    return path


def damaged(path: Path, damage: Callable[[h5py.File], None]) -> Path:
    """The file after `damage(file)`."""
    with h5py.File(path, "r+") as file:
        damage(file)
    return path


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    """A damage: the dataset with other numbers, its attributes kept."""

    def damage(file: h5py.File) -> None:
        data, attributes = file[name][()], dict(file[name].attrs)
        del file[name]
        file[name] = change(data)
        file[name].attrs.update(attributes)

    return damage
