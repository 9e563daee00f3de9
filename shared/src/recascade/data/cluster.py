"""Joining a Ray cluster, or starting one on this machine for as long as it is needed."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from recascade.errors import ConfigurationError, MissingDependencyError

# What goes through Ray's object store are paths and small tables; its own default is a third of the memory.
_OBJECT_STORE_BYTES = 256 << 20
_ANSWER_SECONDS = 10.0
# Pages of state that Ray prints when a process or machine is lost; whoever handed it work says so in a sentence.
_NOT_SHOWN = "^(Raylet is terminated|A worker died or was killed|The node with node id)"


@contextmanager
def ray_cluster(address: str | None = None, cpus: int | None = None) -> Iterator[ModuleType]:
    """Give the module ``ray``, connected; on leaving, what was started or joined here is left again.

    Args:
        address: ``auto``, ``host:port`` or ``ray://host:port`` of a cluster that runs; None starts one that lives as
            long as the block, unless this process is connected to a cluster already, which is used then.
        cpus: CPU cores that a cluster started here may use; None for those of the machine.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: there is no cluster at the address, or it is of another version.
    """
    ray = import_ray()
    if ray.is_initialized():
        yield ray
        return
    if address not in (None, "auto", "local"):
        _require_answer(str(address))
    # Ray takes SIGTERM for itself; the command line has its own care for it.
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if in_main else None
    logging.getLogger("ray").setLevel(logging.ERROR)
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        if address is None:
            # Who runs recascade did not ask to report usage to somebody.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(
                address="local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE_BYTES,
                **quiet,
            )
        else:
            ray.init(address=address, **quiet)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ConfigurationError(_refusal(address, error)) from error
    finally:
        if handler is not None:
            signal.signal(signal.SIGTERM, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def _refusal(address: str | None, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if address is None:
        return f"Ray could not be started on this machine ({reason})."
    return (
        f"Ray gives no cluster at {address!r} ({reason}). Start one with 'ray start --head'; if it was started with a "
        "token, set RAY_AUTH_MODE=token here too."
    )


def _require_answer(address: str) -> None:
    """Ray itself would knock for minutes at a door that is not there."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"--ray-address {address} is no address; write auto, HOST:PORT or ray://HOST:PORT.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except OSError as error:
        raise ConfigurationError(
            f"Nobody answers at {address} ({error}); start a cluster with 'ray start --head', or leave --ray-address "
            "out to use this machine."
        ) from error


def import_ray() -> ModuleType:
    """The module ``ray``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    # Read when Ray is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", _NOT_SHOWN)
    try:
        import ray
    except ImportError as error:
        raise MissingDependencyError(
            "Work on a cluster needs Ray, which is not installed; install it with: pip install 'recascade[ray]'"
        ) from error
    module: ModuleType = ray
    return module
