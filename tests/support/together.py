"""Functions in several processes that train together, as ``torchrun`` would start them, but forked from this one."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from typing import Any

from torch.distributed import TCPStore


def together(function: Callable[..., Any], *arguments: Any, processes: int = 2) -> list[str]:
    """Call ``function(rank, *arguments)`` in each; what each raised as ``"TrainingError: …"``, '' where nothing."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    children = [
        context.Process(target=_child, args=(rank, processes, store.port, pipes[rank][1], function, arguments))
        for rank in range(processes)
    ]
    for child in children:
        child.start()
    for _, sender in pipes:
        sender.close()
    problems = []
    for receiver, _ in pipes:
        try:
            problems.append(receiver.recv())
        except EOFError:
            problems.append("killed")
    for child in children:
        child.join()
    return problems


def _child(rank: int, processes: int, port: int, sender: Any, function: Callable[..., Any], arguments: Any) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"}
    os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    try:
        function(rank, *arguments)
    except BaseException as error:
        traceback.print_exc()
        sender.send(f"{type(error).__name__}: {error}")
    else:
        sender.send("")
    os._exit(0)
