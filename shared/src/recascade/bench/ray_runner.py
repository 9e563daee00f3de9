"""Runs on a Ray cluster: each in a process of its own on whatever machine has room, tried again when that is lost."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recascade.bench.landmark import Landmark, landmark_in
from recascade.bench.registry import find_method
from recascade.bench.runner import Event, LocalRunner
from recascade.bench.store import RESULT_FILE, Run
from recascade.data.cluster import import_ray, ray_cluster
from recascade.errors import ConfigurationError

# A machine of the cluster was not started from the user's shell, and would look elsewhere for data and splits.
_CARRIED = ("RECASCADE_HOME", "RECASCADE_DATA")
_CHECK_SECONDS = 120.0
"""How long a machine may take to start a process and look at the folder of the results."""
_VISIBLE_SECONDS = 90.0
"""How long a file of another machine may take to appear; NFS keeps what it knows of a folder for up to 60 s."""
_GRACE_SECONDS = 70.0
"""How long cancelled tasks may take: longer than ``LocalRunner`` gives the process of a run to write its checkpoint."""


@dataclass(frozen=True)
class RayRunner:
    """Each run is a task of a Ray cluster, which starts the process that ``LocalRunner`` would start.

    All machines see the folder of the results at the same path and have the same recascade installed. A run whose
    process or machine is lost begins again from its last checkpoint on whatever machine has room; a run that says what
    is wrong is not tried again.

    Attributes:
        address: ``auto``, ``host:port`` or ``ray://host:port`` of a cluster that runs; None for one on this machine
            that ends with the sweep.
        threads: CPU threads of each run, its ``num_cpus``.
        jobs: runs at a time; None for as many as the cluster has room for, also when it grows or shrinks meanwhile.
        cpus: CPU cores of a cluster that is started here; None for those of the machine.
        tries: how often a run is begun before it counts as failed.
    """

    address: str | None = None
    threads: int = 1
    jobs: int | None = None
    cpus: int | None = None
    tries: int = 5

    def run(self, directories: Sequence[Path], watch: Callable[[Event], None], pulse: Callable[[], None]) -> None:
        """See ``Runner.run``; beside, ``watch`` is told of every run that was ``lost`` and is tried again.

        Raises:
            MissingDependencyError: Ray is not installed.
            ConfigurationError: there is no cluster at the address, none of its machines has the threads or GPUs that a
                run asks for, or one of them does not see the results.
        """
        if not directories:
            return
        # Tasks run in another working folder.
        absolute = {directory.resolve(): directory for directory in directories}
        folder = Path(os.path.commonpath([directory.parent for directory in absolute]))
        with ray_cluster(self.address, self.cpus) as ray, landmark_in(folder) as landmark:
            gpus = {directory: _gpus(directory, ray) for directory in absolute}
            _check_machines(ray, landmark, self.threads, max(gpus.values()))
            tasks = _Tasks(ray, landmark, self.threads)
            waiting = deque(absolute)
            begun: Counter[Path] = Counter()
            try:
                while waiting or tasks.running:
                    room = self.jobs or max(1, int(ray.cluster_resources().get("CPU", 0)) // self.threads)
                    while waiting and len(tasks.running) < room:
                        directory = waiting.popleft()
                        tasks.submit(directory, gpus[directory])
                        begun[directory] += 1
                        watch(Event(absolute[directory], "started"))
                    for event in tasks.ended():
                        directory = event.directory
                        if event.died and begun[directory] < self.tries:
                            again = f"{event.problem} Try {begun[directory] + 1} of {self.tries} follows."
                            event = replace(event, kind="lost", problem=again)
                            waiting.append(directory)
                        watch(replace(event, directory=absolute[directory]))
                    pulse()
            except BaseException:
                tasks.stop()
                raise


class _Tasks:
    """The tasks of a sweep that are with Ray.

    Attributes:
        running: task → its run.
    """

    def __init__(self, ray: Any, landmark: Landmark, threads: int) -> None:
        self.running: dict[Any, Path] = {}
        self._ray = ray
        # Ray would try again in silence; the runner does it, and says why.
        self._compute = ray.remote(num_cpus=threads, max_retries=0)(_compute)
        self._rest = (threads, landmark, {name: os.environ[name] for name in _CARRIED if name in os.environ})

    def submit(self, directory: Path, gpus: int) -> None:
        """Hand a run to the cluster."""
        label = " ".join(directory.parts[-3:])
        task = self._compute.options(name=label, num_gpus=gpus).remote(directory, *self._rest)
        self.running[task] = directory

    def ended(self, seconds: float = 0.25) -> list[Event]:
        """Wait a moment, and tell what came of the tasks that have ended."""
        done, _ = self._ray.wait(list(self.running), num_returns=len(self.running), timeout=seconds)
        return [self._outcome(task, self.running.pop(task)) for task in done]

    def stop(self) -> None:
        """Ask for an orderly end, once, and insist after a while or at a second Ctrl-C."""
        for task in self.running:
            self._ray.cancel(task)
        deadline = time.monotonic() + _GRACE_SECONDS
        try:
            while self.running and time.monotonic() < deadline:
                self.ended()
        finally:
            for task in self.running:
                self._ray.cancel(task, force=True)

    def _outcome(self, task: Any, directory: Path) -> Event:
        from ray import exceptions

        try:
            event: Event = self._ray.get(task)
        except (exceptions.RayTaskError, exceptions.TaskCancelledError) as error:
            return Event(directory, "failed", f"The task of the run failed: {_last_line(error)}.")
        except exceptions.OutOfMemoryError:
            problem = "Ray ended the run because its machine ran out of memory; use fewer --jobs or more --threads."
            return Event(directory, "failed", problem, died=True)
        except exceptions.NodeDiedError:
            return Event(directory, "failed", "The machine of the run was lost.", died=True)
        except exceptions.WorkerCrashedError:
            return Event(directory, "failed", "The Ray worker of the run was killed or crashed.", died=True)
        except exceptions.RayError as error:
            return Event(directory, "failed", f"Ray lost the run ({type(error).__name__}).", died=True)
        return _seen_here(event) if event.kind == "finished" else event


def _seen_here(event: Event) -> Event:
    """Wait for the result: a network file system may show a file some seconds after another machine has written it."""
    deadline = time.monotonic() + _VISIBLE_SECONDS
    while Run(event.directory).state != "finished":
        if time.monotonic() > deadline:
            problem = f"The run has finished, but its {RESULT_FILE} is not visible here; is {event.directory} shared?"
            return replace(event, kind="failed", problem=problem)
        # Asking for the whole folder makes the file system look again; it tells nobody when it has.
        os.listdir(event.directory)
        time.sleep(0.1)
    return event


def _compute(directory: Path, threads: int, landmark: Landmark, environment: dict[str, str]) -> Event:
    """The task: on the machine that Ray chose, do what ``LocalRunner`` does."""
    problem = landmark.problem_on(socket.gethostname())
    if problem:
        return Event(directory, "failed", problem)
    os.environ.update(environment)
    # Without this, multiprocessing would import Ray's worker program into the process of the run.
    vars(sys.modules["__main__"]).pop("__file__", None)
    events: list[Event] = []
    LocalRunner(processes=1, threads=threads).run([directory], events.append, lambda: None)
    return events[-1]


def _check_machines(ray: Any, landmark: Landmark, threads: int, gpus: int) -> None:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    machines = [node for node in ray.nodes() if node["Alive"]]
    able = [
        node
        for node in machines
        if node["Resources"].get("CPU", 0) >= threads and node["Resources"].get("GPU", 0) >= gpus
    ]
    if not able:
        largest = max(int(node["Resources"].get("CPU", 0)) for node in machines)
        raise ConfigurationError(
            f"No machine of the Ray cluster has {threads} CPU cores and {gpus} GPUs for one run (at most "
            f"{largest} cores); use fewer --threads or fewer trainer.devices."
        )
    look = ray.remote(num_cpus=0, max_retries=2)(_look)
    looks = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(landmark)
        for node in able
    ]
    for node, task in zip(able, looks, strict=True):
        name = node["NodeManagerHostname"]
        try:
            problem = ray.get(task, timeout=_CHECK_SECONDS)
        except import_ray().exceptions.GetTimeoutError as error:
            raise ConfigurationError(f"Machine {name} of the Ray cluster started no process in time.") from error
        except import_ray().exceptions.RayError as error:
            raise ConfigurationError(
                f"Machine {name} of the Ray cluster cannot run recascade ({_last_line(error)}); install there what is "
                "installed here."
            ) from error
        if problem:
            raise ConfigurationError(problem)


def _look(landmark: Landmark) -> str:
    return landmark.problem_on(socket.gethostname())


def _gpus(directory: Path, ray: Any) -> int:
    """GPUs that a run asks for, by ``trainer.accelerator``; under ``auto``, a trained method takes what is there."""
    config = Run(directory).config
    if config.trainer.accelerator in ("gpu", "cuda"):
        return config.trainer.devices
    automatic = config.trainer.accelerator == "auto" and find_method(config.method).trained
    return config.trainer.devices if automatic and ray.cluster_resources().get("GPU") else 0


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1].rstrip(".")
