"""An external program between pipes, which ends with this process."""

import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

KEPT = 4096  # bytes of its standard error
CHUNK = 2**20
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded before any fork


class Child:
    """A program that was started with `command` in the folder `cwd`; raises OSError.

    It has a process group of its own, one thread and no GPU. `close` ends it and what it started
    in its group. When this process dies in any way, or the thread that made this object ends, the
    kernel kills the program (on Linux only), not what the program started.
    """

    def __init__(self, command: Sequence[str], cwd: str | None):
        self._process = subprocess.Popen(
            command,
            cwd=cwd,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            process_group=0,
            preexec_fn=_bound_to(os.getpid()),
        )
        self.pid, self._messages = self._process.pid, b""
        self._out, self._err = self._process.stdout.fileno(), self._process.stderr.fileno()
        os.set_blocking(self._err, False)
        self._selector = selectors.DefaultSelector()
        for pipe in (self._out, self._err):
            self._selector.register(pipe, selectors.EVENT_READ)

    def write(self, request: bytes) -> None:
        """A few kilobytes to its standard input, which is closed then."""
        with suppress(BrokenPipeError):  # it may do without
            self._process.stdin.write(request)
        self._process.stdin.close()

    def read(self, size: int, deadline: float) -> bytes:
        """`size` bytes of its standard output, fewer when that was closed or `deadline` (of
        `time.monotonic`) passed. Messages are taken off too, so that it never waits for us.
        """
        data = bytearray()
        while len(data) < size and self._wait(deadline):
            came = os.read(self._out, min(size - len(data), CHUNK))
            if not came:
                self._selector.unregister(self._out)
                break
            data += came
        return bytes(data)

    def ended(self, deadline: float) -> tuple[int, bool] | None:
        """Its exit code and False, or its signal and True; None when it has not ended by then."""
        while True:
            # Not reaped before `close`: until then nobody else can have its number.
            found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
            if found is not None:
                return found.si_status, found.si_code != os.CLD_EXITED
            if time.monotonic() > deadline:
                return None
            self._listen()
            time.sleep(0.002)

    def messages(self) -> str:
        """The last 4 KiB of its standard error."""
        self._listen()
        return self._messages.decode(errors="replace").strip()

    def close(self) -> None:
        """End it if it has not ended; nothing of it is left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            pipe.close()

    def _wait(self, deadline: float) -> bool:
        """Whether there is something on its standard output, or its end, before the deadline."""
        while True:
            left = deadline - time.monotonic()
            ready = [key.fd for key, _ in self._selector.select(max(0.0, left))]
            if self._err in ready:
                self._listen()
            if self._out in ready and left > 0:
                return True
            if left <= 0:
                return False

    def _listen(self) -> None:
        with suppress(BlockingIOError):
            came = os.read(self._err, CHUNK)
            self._messages = (self._messages + came)[-KEPT:]
            if not came and self._err in self._selector.get_map():
                self._selector.unregister(self._err)


def _bound_to(parent: int) -> Callable[[], None] | None:
    """What the new process does first: die when this one dies."""
    if LIBC is None:
        return None

    def bind() -> None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # which died before the line above
            os._exit(1)

    return bind
