"""Writing beside a training."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

AHEAD = 2  # works that may wait: do not outrun the disk


class Writer:
    """A thread that does one work after another. When one ends with an OSError, `failure` says why
    and none that comes after it is done, so that what is written has no gap.

    Results and failures become known when they are waited for, in `settle` or, where too many
    works wait, in `submit`. So what is known follows from the calls and not from the disk's speed.
    """

    def __init__(self, folder: Any):
        self._folder, self.failure = folder, None
        self._thread = ThreadPoolExecutor(1, "tee")
        self._pending: list[tuple[Future, Callable[[Any], None] | None]] = []
        self._error: OSError | None = None  # known to the thread alone

    def submit(
        self, work: Callable, *arguments: Any, then: Callable[[Any], None] | None = None
    ) -> None:
        """Have work done; `then` gets its result once that is known."""
        if self.failure is None:
            self._pending.append((self._thread.submit(self._do, work, *arguments), then))
            while len(self._pending) > AHEAD:
                self._settle_one()

    def settle(self) -> None:
        """Wait for all of it."""
        while self._pending:
            self._settle_one()

    def close(self) -> None:
        self._thread.shutdown()

    def _settle_one(self) -> None:
        future, then = self._pending.pop(0)
        try:
            result = future.result()
        except OSError as error:
            self.failure = self.failure or f"{self._folder}: {error.strerror or error}"
        else:
            if then is not None:
                then(result)

    def _do(self, work: Callable, *arguments: Any) -> Any:
        if self._error is not None:
            raise self._error
        try:
            return work(*arguments)
        except OSError as error:
            self._error = error
            raise
