"""Work on files that may be damaged in any way, in a process that can be given up."""

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

PATIENCE = 60.0  # seconds without a sign of life


class Stuck(ValueError):
    """The process died, failed, or said nothing for `PATIENCE` seconds."""


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
    begun = False
    try:
        while True:
            if not receiver.poll(PATIENCE):
                raise Stuck(
                    f"no answer for {PATIENCE:g} s: the file may be damaged, or the disk very slow."
                )
            try:
                kind, item = receiver.recv()
            except (EOFError, OSError):
                process.join()
                raise Stuck(
                    f"the process that read it ended with exit code {process.exitcode}: the file "
                    "may be damaged, or memory short."
                    if begun
                    else "the process that should read it could not start; call this from a module "
                    "or behind `if __name__ == '__main__'`."
                ) from None
            if kind == "failed":
                raise Stuck(item)
            if kind == "done":
                return
            if begun:
                yield item
            begun = True
    finally:
        process.kill()
        process.join()
        receiver.close()


def _send(sender: Connection, work: Callable[..., Iterator[Any]], *arguments: Any) -> None:
    sender.send(("begun", None))
    try:
        for item in work(*arguments):
            sender.send(("item", item))
    except Exception as error:  # told to the one who waits for an answer
        sender.send(("failed", f"{type(error).__name__}: {error}"))
    else:
        sender.send(("done", None))
