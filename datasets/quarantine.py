"""Work on files that may be damaged in any way, in a process that can be given up."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

PATIENCE = 60.0  # seconds without a sign of life


class Stuck(ValueError):
    """The process died, or said nothing for `PATIENCE` seconds."""


def apart(work: Callable[..., Iterator[Any]], *arguments: Any) -> Iterator[Any]:
    """What `work(*arguments)` yields, computed in a process of its own.

    HDF5's C library can loop without end, or crash, on a file whose bytes were altered, and takes
    Python with it. `work` is a function of a module, what it yields is plain, and it yields often
    enough. Raises `Stuck` when the process dies or falls silent; it is killed then.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, work, *arguments), daemon=True)
    process.start()
    sender.close()
    try:
        while True:
            if not receiver.poll(PATIENCE):
                raise Stuck(f"nothing came of reading it for {PATIENCE:g} s; the file is damaged.")
            try:
                more, item = receiver.recv()
            except EOFError:
                process.join()
                raise Stuck(
                    f"reading it ended the process (exit code {process.exitcode}); the file is "
                    "damaged."
                ) from None
            if not more:
                return
            yield item
    finally:
        process.kill()
        process.join()
        receiver.close()


def _send(sender: Connection, work: Callable[..., Iterator[Any]], *arguments: Any) -> None:
    for item in work(*arguments):
        sender.send((True, item))
    sender.send((False, None))
