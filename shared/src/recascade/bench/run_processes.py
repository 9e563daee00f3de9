"""A run in several processes of this machine, one for each device, that train and evaluate it together."""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch.distributed as dist

from recascade.bench.child_processes import end_with_parent, fresh_processes, stop_processes
from recascade.errors import RecascadeError, TrainingError
from recascade.training.failures import LostProcessError, explain_lost_process

_LAST_WORDS_SECONDS = 5.0
"""When a process has failed, how long the others may take to say what they know: the first to end may have only lost
the one that is to blame."""

_GRACE_SECONDS = 50.0
"""How long interrupted processes may take to write their checkpoint; less than the runner of many runs allows."""


@dataclass(frozen=True)
class _Outcome:
    """What a process left: a result, or a problem.

    Attributes:
        rank: of the process.
        problem: '' for none.
        blame: greatest for the process that is the cause of the others' problems.
        result: what the function returned, from the first process.
    """

    rank: int
    problem: str = ""
    blame: int = 0
    result: Any = None


def run_in_processes(function: Callable[..., Any], arguments: tuple[Any, ...], processes: int) -> Any:
    """Call ``function(*arguments)`` in so many fresh processes that find each other as those of ``torchrun`` do.

    When one fails, the others are ended. Ctrl-C and SIGTERM are passed on: a process that trains keeps a checkpoint.

    Args:
        function: found by import; the same in every process.
        arguments: likewise.
        processes: at least 2.

    Returns:
        What the function returned in the first process.

    Raises:
        TrainingError: a process failed, with its sentence, or was killed, with its number.
    """
    # The port is the system's choice; the processes meet there.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    context = fresh_processes()
    running: dict[Connection, tuple[int, BaseProcess]] = {}
    outcomes: list[_Outcome] = []
    try:
        for rank in range(processes):
            receiver, sender = context.Pipe(duplex=False)
            work = (rank, processes, store.port, sender, function, arguments)
            process: BaseProcess = context.Process(target=_body, args=work)
            process.start()
            sender.close()
            running[receiver] = (rank, process)
        deadline = float("inf")
        while running and time.monotonic() < deadline:
            for receiver in [item for item in wait(list(running), timeout=0.25) if isinstance(item, Connection)]:
                outcomes.append(_outcome(*running.pop(receiver), receiver))
                if outcomes[-1].problem:
                    deadline = min(deadline, time.monotonic() + _LAST_WORDS_SECONDS)
    finally:
        stop_processes([process for _, process in running.values()], _GRACE_SECONDS)
    worst = max(outcomes, key=lambda outcome: outcome.blame)
    if worst.problem:
        raise TrainingError(worst.problem)
    return next(outcome.result for outcome in outcomes if outcome.rank == 0)


def _outcome(rank: int, process: BaseProcess, receiver: Connection) -> _Outcome:
    try:
        blame, problem, result = receiver.recv()
    except EOFError:
        process.join()
        code = process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        problem = f"Process {rank} of this run {how}; the same command goes on from the last checkpoint."
        return _Outcome(rank, problem, blame=4)
    finally:
        receiver.close()
    return _Outcome(rank, problem, blame, result)


def _body(
    rank: int,
    processes: int,
    port: int,
    sender: Connection,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """What a process does: join the others, compute, and send its blame, its problem ('' for none) and its result."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    os.environ.update({"RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"})
    os.environ.update({"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)})
    # The store lives in the parent; no process has to serve it.
    os.environ.update({"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"})
    blame, problem, result = 0, "", None
    try:
        with explain_lost_process():
            result = function(*arguments)
    except (KeyboardInterrupt, SystemExit):
        os._exit(130)
    except RecascadeError as error:
        blame, problem = (1 if isinstance(error, LostProcessError) else 3), str(error)
        traceback.print_exc()
    except Exception as error:
        blame, problem = 2, f"{type(error).__name__}: {error}"
        traceback.print_exc()
    sender.send((blame, problem, result if rank == 0 else None))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of a communicator that has lost a process would keep this one from ending.
    os._exit(1 if problem else 0)
