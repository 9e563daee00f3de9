"""Threads of the numerical libraries, which a service of many small answers does better without."""

from __future__ import annotations

import torch

from recascade.errors import MissingDependencyError


def compute_on_one_thread() -> None:
    """From now on each answer computes on the thread that it is asked on: PyTorch, NumPy's and FAISS's libraries.

    Answers share the cores among themselves; more threads within each would only wait for each other, busily.

    Raises:
        MissingDependencyError: threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise MissingDependencyError('Serving needs threadpoolctl: pip install "recascade[serve]"') from error
    torch.set_num_threads(1)
    threadpool_limits(limits=1)
