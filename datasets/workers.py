"""Worker processes: one thread each, deaf to Ctrl-C, gone when their parent is."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import torch


def ordered(function: Callable, items: Sequence, num_workers: int) -> Iterator:
    """function(item) for each item, in the order of the items, computed by spawned processes.

    Every process uses one thread: with several, the order of floating-point sums, and so the last
    bits of a result, would depend on their number. `num_workers=0` computes here, with one thread
    too. When the caller stops early, or an item raises, the processes are ended. Raises
    ChildProcessError when one of them dies.
    """
    if num_workers == 0 or not items:
        yield from _here(function, items)
        return
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(
        min(num_workers, len(items)), multiprocessing.get_context("spawn"), initializer=prepare
    )
    try:
        with deaf_to_interrupts():
            results = pool.map(function, items)
        yield from results
        pool.shutdown()
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
            process.join()
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError(
                "a worker process died (killed, or out of memory). Run again, with fewer workers "
                "if memory is short."
            ) from error
        raise


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Processes that are started here inherit the signal mask: Ctrl-C reaches the parent alone,
    which ends them.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _here(function: Callable, items: Sequence) -> Iterator:
    threads = torch.get_num_threads()
    for item in items:
        torch.set_num_threads(1)
        try:
            result = function(item)
        finally:
            torch.set_num_threads(threads)
        yield result


def prepare() -> None:
    """One thread to compute, and one that waits for the parent: if killed, it tells nobody."""
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)
