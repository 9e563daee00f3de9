"""Processes of this machine: how they are started, how they notice that their parent is gone, how they are ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess


def fresh_processes() -> ForkServerContext | SpawnContext:
    """How to start processes that inherit nothing, sooner where a server that has imported torch can fork them."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning.pytorch"])
    return context


def end_with_parent() -> None:
    """A run must not go on unseen when the command that started it was killed."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def stop_processes(processes: Sequence[BaseProcess], grace_seconds: float) -> None:
    """Ask for an orderly end, once, and insist after a while or at a second Ctrl-C."""
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + grace_seconds
    try:
        for process in processes:
            process.join(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
