"""A connection to Ray."""

import gc
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType

from datasets.workers import deaf_to_interrupts

ROOT = Path(__file__).parents[2]
LOOPBACK = "127.0.0.1"
LEAST_STORE = 80_000_000  # bytes; Ray asks for 75 MiB
INSTALL = "ray is not installed; `pip install ray==2.60.0`, or `make .venv/extras` in the checkout."


class RaySession:
    """Ray on this machine, with `cpus` places and `store` bytes for objects on their way, or the
    cluster at `address`.

    On this machine it listens on the loopback interface alone, has no dashboard, reports no usage,
    and `close` ends its processes and removes its files. A session that the process already had
    is used and left as it is; then `cpus` and `store` say nothing.
    """

    def __init__(self, cpus: int, store: int, address: str | None):
        self.ray = imported()
        self._folder: str | None = None
        self.own = not self.ray.is_initialized()
        self.local = self.own and address is None
        if self.own:
            handler = signal.getsignal(signal.SIGTERM)
            try:
                with deaf_to_interrupts():
                    self._begin(cpus, store, address)
            except BaseException:
                self.close()
                raise
            finally:
                if threading.current_thread() is threading.main_thread():
                    signal.signal(signal.SIGTERM, handler)  # Ray puts its own

    def close(self) -> None:
        if self.own and self.ray.is_initialized():
            gc.collect()  # a handle that is freed later counts for an actor of the next session
            self.ray.shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _begin(self, cpus: int, store: int, address: str | None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # actors see no GPU
        job = self.ray.job_config.JobConfig(_py_driver_sys_path=[str(ROOT)])
        quiet = {"configure_logging": False, "log_to_driver": False, "job_config": job}
        if address is not None:
            near = address.startswith((f"{LOOPBACK}:", "localhost:"))
            host, _, port = address.rpartition(":")
            try:
                if host and port.isdigit():  # Ray would try for minutes
                    socket.create_connection((host, int(port)), timeout=10.0).close()
                with on_loopback() if near else nullcontext():
                    self.ray.init(address, **quiet)
            except OSError as error:
                raise ValueError(
                    f"online.engine.address={address}: there is no Ray cluster ({error}); start "
                    "one with `ray start --head`, or leave the address out."
                ) from error
            return
        self._folder = tempfile.mkdtemp(prefix="ray_")
        with on_loopback():
            self.ray.init(
                "local",
                num_cpus=cpus,
                num_gpus=0,
                object_store_memory=max(store, LEAST_STORE),
                include_dashboard=False,
                _node_ip_address=LOOPBACK,
                _temp_dir=self._folder,
                **quiet,
            )


def imported() -> ModuleType:
    """The package, whose import takes a second; ValueError with what to do if it is missing."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ValueError(INSTALL) from error
    return ray


@contextmanager
def on_loopback() -> Iterator[None]:
    """Nodes that are started here keep to the loopback interface, as Ray does by itself on macOS;
    elsewhere it takes 127.0.0.1 for the address of the machine and listens on all interfaces.
    """
    from ray._private import ray_constants

    name, before = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, ray_constants.ENABLE_RAY_CLUSTER
    environment = os.environ.get(name)
    os.environ[name], ray_constants.ENABLE_RAY_CLUSTER = "0", False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        os.environ.pop(name)
        if environment is not None:
            os.environ[name] = environment
