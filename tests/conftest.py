"""What all tests share. Kill tests fork this process: nothing may leave a lock or a thread that a child waits for."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import cv2
import pytest
from tqdm import tqdm

# tqdm's lock is one for a process and all that are forked from it: a child that is killed while it draws a bar would
# leave the lock taken for good, and its parent waiting.
os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))
# With more threads OpenCV keeps a pool, which a forked child waits for and does not have.
cv2.setNumThreads(1)


@pytest.fixture
def kill_at_operation() -> Callable[[int, Path, Callable[[], object]], bool]:
    """Run something in a process of its own that is killed -9 just before its n-th operation on files under a folder.

    Says whether the kill came, so that a loop over n tries every moment there is.
    """

    def run(operation: int, folder: Path, target: Callable[[], object]) -> bool:
        def run_and_die() -> None:
            left = operation

            def count(event: str, arguments: tuple[object, ...]) -> None:
                nonlocal left
                if event in {"open", "os.rename", "os.remove", "os.mkdir"} and str(folder) in str(arguments[0]):
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(count)
            target()

        process = multiprocessing.get_context("fork").Process(target=run_and_die)
        process.start()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0

    return run


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Let no file grow beyond some bytes: what a full disk looks like to a writer."""

    @contextmanager
    def limit(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit
