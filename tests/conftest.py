"""What all tests share. Kill tests fork this process: nothing may leave a lock or a thread that a child waits for."""

from __future__ import annotations

import os
import threading

import cv2
from tqdm import tqdm

# tqdm's lock is one for a process and all that are forked from it: a child that is killed while it draws a bar would
# leave the lock taken for good, and its parent waiting.
os.register_at_fork(after_in_child=lambda: tqdm.set_lock(threading.RLock()))
# With more threads OpenCV keeps a pool, which a forked child waits for and does not have.
cv2.setNumThreads(1)
