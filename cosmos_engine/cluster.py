"""A Ray cluster, of this machine or many (extra `ray`): connecting, and how many workers it has room for."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cosmos_engine.errors import InputError
from cosmos_engine.worker_process import usable_cores

LOCAL = "local"
"""The address that starts a cluster of this machine alone, for as long as the job runs."""
MOST_DEATHS = 3
"""When so many workers have died over the same piece of work, it is the work."""
_OBJECT_STORE_BYTES = 100_000_000  # of a local cluster; what is more waits on the disk


@contextmanager
def connected(address: str, workers: int | None, needs_gpu: bool) -> Iterator[tuple[Any, int]]:
    """Connect to a Ray cluster, or start one of this machine; disconnect, or stop it, at the end.

    Args:
        address: `LOCAL`, "auto" for the cluster that this machine belongs to, or "HOST:PORT" of its head.
        workers: how many are wanted; None for one on every GPU or CPU core of the cluster.
        needs_gpu: whether a worker has a GPU to itself, or else a CPU core.

    Yields:
        the module `ray`, and the number of workers.

    Raises:
        InputError: Ray is not installed, there is no such cluster, or it has too few GPUs or cores.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise InputError("--ray: Ray is not installed; pip install 'cosmos-engine[ray]'") from error
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == LOCAL:
        cores = None if needs_gpu else max(usable_cores(), workers or 0)
        options |= {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES, "num_cpus": cores}
    try:
        ray.init(address=address, **options)
    except Exception as error:  # Ray raises plain ones too, as when a machine is too busy to start it in 30 s
        raise InputError(f"--ray {address}: no Ray cluster: {' '.join(str(error).split())[:200]}") from error
    try:
        kind = "GPU" if needs_gpu else "CPU"
        there = int(ray.cluster_resources().get(kind, 0))
        if there < max(1, workers or 1):
            raise InputError(
                f"--ray {address}: the cluster has {there} {kind}s where {workers or 1} workers need one each"
            )
        yield ray, workers or there
    finally:
        ray.shutdown()
