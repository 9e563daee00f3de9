"""Where runs are computed. A runner is given run directories and nothing else; results lie in them afterwards."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, Protocol

from recascade.bench.child_processes import end_with_parent, fresh_processes, stop_processes
from recascade.bench.sole_use import sole_use
from recascade.bench.store import CONFIG_FILE, LOG_FILE, Run
from recascade.errors import RecascadeError
from recascade.files import explain_write_failure

_GRACE_SECONDS = 60.0
"""How long interrupted runs may take to write their checkpoint before they are killed."""


@dataclass(frozen=True)
class Event:
    """Something that happened to a run.

    Attributes:
        directory: the run.
        kind: what happened; after ``lost``, the run is tried again.
        problem: for ``failed`` and ``lost``, the sentence that says why.
        died: the process ended before it could say why: killed, or its machine is gone.
    """

    directory: Path
    kind: Literal["started", "finished", "failed", "lost"]
    problem: str = ""
    died: bool = False


class Runner(Protocol):
    """Computes runs: here in processes of this machine; another one may hand them to a cluster."""

    def run(self, directories: Sequence[Path], watch: Callable[[Event], None], pulse: Callable[[], None]) -> None:
        """Compute every run, in any order; return when all have finished or failed.

        ``KeyboardInterrupt`` ends the running ones (they keep their checkpoints) and is raised again.

        Args:
            directories: run directories, each with its ``config.yaml``.
            watch: told of every event.
            pulse: called a few times a second, to redraw a display.
        """
        ...


@dataclass(frozen=True)
class LocalRunner:
    """Each run in a fresh process of this machine, so many at a time.

    A fresh process makes the measured peak memory and CPU time the run's own. Where the system allows it, processes are
    forked from a server that has already imported torch, which saves each run several seconds.

    Attributes:
        processes: runs at a time.
        threads: CPU threads of each.
    """

    processes: int
    threads: int

    def run(self, directories: Sequence[Path], watch: Callable[[Event], None], pulse: Callable[[], None]) -> None:
        """See ``Runner.run``."""
        waiting = deque(directories)
        running: dict[Connection, tuple[Path, BaseProcess]] = {}
        with _thread_limits(self.threads):
            context = fresh_processes()
            try:
                while waiting or running:
                    while waiting and len(running) < self.processes:
                        directory = waiting.popleft()
                        receiver, sender = context.Pipe(duplex=False)
                        process: BaseProcess = context.Process(
                            target=_run_in_process, args=(directory, self.threads, sender), name=directory.name
                        )
                        process.start()
                        sender.close()
                        running[receiver] = (directory, process)
                        watch(Event(directory, "started"))
                    for receiver in [
                        item for item in wait(list(running), timeout=0.25) if isinstance(item, Connection)
                    ]:
                        directory, process = running.pop(receiver)
                        watch(_outcome(directory, process, receiver))
                    pulse()
            except BaseException:
                stop_processes([process for _, process in running.values()], _GRACE_SECONDS)
                raise


def available_cores() -> int:
    """CPU cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _thread_limits(threads: int) -> Iterator[None]:
    """Native libraries read these at import, so they must stand in the environment that the processes inherit."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS", "RAYON_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _outcome(directory: Path, process: BaseProcess, receiver: Connection) -> Event:
    died = False
    try:
        problem: str = receiver.recv()
    except EOFError:
        died = True
        process.join()
        code = process.exitcode or 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        hint = "; the machine may have run out of memory: use fewer --jobs" if code == -signal.SIGKILL else ""
        problem = f"The process {how}{hint}. Its log is {directory / LOG_FILE}; the same command goes on from there."
    finally:
        receiver.close()
    process.join()
    return Event(directory, "failed", problem, died) if problem else Event(directory, "finished")


def _run_in_process(directory: Path, threads: int, sender: Connection) -> None:
    """The body of a run's process: log into the run directory, compute, and send the problem ('' for none)."""
    # Ctrl-C reaches the whole process group; the runner alone answers it, and asks its processes to end by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    end_with_parent()
    problem = ""
    try:
        with explain_write_failure(directory / LOG_FILE):
            _write_output_to(directory / LOG_FILE)
        from recascade.bench.job import run_job

        with sole_use(directory / CONFIG_FILE), explain_write_failure(directory):
            # Whoever held the run before, in a command that was killed, may have got to its end.
            if Run(directory).state != "finished":
                run_job(directory, threads)
    except (KeyboardInterrupt, SystemExit):
        print("Interrupted; the same command goes on from the last checkpoint.", flush=True)
        os._exit(130)
    except RecascadeError as error:
        problem = str(error)
        _log_traceback()
    except Exception as error:
        problem = f"{type(error).__name__}: {error}. The traceback is in {directory / LOG_FILE}."
        _log_traceback()
    sender.send(problem)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _write_output_to(path: Path) -> None:
    """Everything that is printed, also by native code, goes to the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _log_traceback() -> None:
    import traceback

    traceback.print_exc()
    sys.stderr.flush()
