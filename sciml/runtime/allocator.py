"""Memory that is freed stays with the process, where the C library lets it be told so."""

import ctypes
import platform

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # numbers of mallopt(3)
SETTINGS = {TRIM_THRESHOLD: 2**31 - 1, MMAP_THRESHOLD: 2**28}  # bytes


def keep_freed_memory() -> bool:
    """Tell glibc's malloc not to give freed memory back at once; whether it is glibc.

    A training step frees fields of some megabytes and asks for the same again. By default glibc
    returns them to the system in between, which then has to map and clear every page anew: for
    small networks a sixth of the time of a step. The price is that memory that was needed once is
    not given back before the process ends. Blocks above 256 MiB are returned all the same.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all(mallopt(number, size) == 1 for number, size in SETTINGS.items())


def give_back() -> None:
    """Give freed memory back to the system once, where it is glibc that keeps it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
