"""What all tests share."""

from __future__ import annotations

import os
import threading

from tqdm import tqdm

# tqdm's lock is one for a process and all that are forked from it: a child that is killed while it draws a bar, as the
# kill tests do, would leave the lock taken for good, and its parent waiting.
os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))
