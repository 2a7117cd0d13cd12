"""What every worker process of the engine has: its threads, no bars of its own, and an end when its parent ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_NO_BARS = {"TQDM_DISABLE": "1"}


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def environment(threads: int) -> dict[str, str]:
    """Return what libraries read when they are imported: threads, and no bars but the parent's."""
    libraries = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    # Mesa's own, where it draws on the CPU: beside the thread that asks it to draw, which waits; 0 means in that one.
    # Processes that share the cores gain nothing by more of them; the pixels are the same.
    return {**libraries, "LP_NUM_THREADS": "0" if threads == 1 else str(threads), **_NO_BARS}


@contextmanager
def inherited_environment(threads: int) -> Iterator[None]:
    """Have processes that are started meanwhile inherit `environment`."""
    wanted = environment(threads)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def begin() -> None:
    """Leave Ctrl-C, which reaches the whole group, to the parent, and end at once when the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """End also where the parent was killed: nobody else may write its folder then."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
