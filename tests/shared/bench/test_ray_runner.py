from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from recascade.bench import registry
from recascade.bench.ray_runner import RayRunner
from recascade.bench.runner import Event, LocalRunner
from recascade.bench.store import METRICS_FILE, Run
from recascade.bench.suite import configs_of
from recascade.bench.sweep import Sweep, compute, lay_out
from recascade.cli.display import SweepDisplay
from recascade.errors import ConfigurationError

ray = pytest.importorskip("ray", reason="Ray is not installed")

# A method whose fit does what its configuration says; each fit leaves a mark in the run's directory.
MORTAL = '''
from __future__ import annotations

import multiprocessing
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from recascade.contracts.method import Method
from recascade.errors import TrainingError

RAY_WORKER = multiprocessing.parent_process()
FIRST_SECOND = Path(__file__).parent / "first-second"

if RAY_WORKER is not None and FIRST_SECOND.exists():
    # The configuration of the run names this method, so that it is not read yet.
    FIRST_SECOND.unlink()
    os.kill(RAY_WORKER.pid, signal.SIGKILL)
    time.sleep(600)


@dataclass
class Config:
    """What to do, and a setting to vary."""

    behaviour: str = "fit"
    width: int = 8


def fit(experiment):
    from recascade.models.popularity import Popularity

    marks = experiment.directory / "fitted"
    again = marks.exists()
    marks.open("a").write("x")
    (experiment.directory / "gpus").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    behaviour = experiment.config.behaviour
    if behaviour == "diverge":
        raise TrainingError("The loss is not a number at step 3; lower trainer.learning_rate.")
    if behaviour == "bug":
        raise RuntimeError("shapes do not match")
    if behaviour == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "last second" and not again:
        from recascade.bench import job

        write = job.write_json

        def write_and_lose_the_worker(path, value):
            write(path, value)
            os.kill(RAY_WORKER.pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)

        job.write_json = write_and_lose_the_worker
    if behaviour == "wait" and again and (experiment.directory / "checkpointed").exists():
        (experiment.directory / "in order").touch()
    if behaviour == "wait" and not again:
        (experiment.directory / "waiting").write_text(str(RAY_WORKER.pid))
        try:
            while not (experiment.directory / "go on").exists():
                time.sleep(0.1)
        except KeyboardInterrupt:
            time.sleep(3)
            (experiment.directory / "checkpointed").touch()
            raise
    return Popularity.fit(experiment.data)


METHOD = Method(
    name="mortal",
    stage="retrieval",
    summary="a method that dies",
    config=Config,
    fit="mortal_method:fit",
    trained=False,
)
'''


class TwoMachines:
    """A Ray cluster of two machines with a core and a GPU each, on this one; the first is the head."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        # Ray only hands out the number of a GPU; that there is none is nothing to it.
        machine = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 80 << 20}
        self._cluster = Cluster(initialize_head=True, head_node_args=machine)
        self.address: str = self._cluster.address
        self._second = self._cluster.add_node(**machine)

    def on_the_second(self, worker: int) -> bool:
        """Whether a worker process runs on the machine that is not the head: its parent is the raylet there."""
        parent = int(Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[1])
        return bool(self._second.all_processes["raylet"][0].process.pid == parent)

    def lose_the_second(self) -> None:
        """End that machine without a word."""
        self._cluster.remove_node(self._second, allow_graceful=False)

    def shut_down(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMachines]:
    """The cluster; its processes, and this one, know the method ``mortal``."""
    folder = tmp_path_factory.mktemp("mortal")
    (folder / "mortal_method.py").write_text(MORTAL)
    metadata = folder / "mortal_method-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mortal-method\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{registry.GROUP}]\nmortal = mortal_method:METHOD\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        registry._discover.cache_clear()
        cluster = TwoMachines(folder)
        yield cluster
        cluster.shut_down()
    registry._discover.cache_clear()
    sys.modules.pop("mortal_method", None)


@pytest.fixture
def laid_out(home: Path, log: Path, tmp_path: Path, machines: TwoMachines) -> Callable[..., Sweep]:
    def make(*settings: dict[str, Any], output: str = "runs") -> Sweep:
        configs = [config for values in settings for config in configs_of("mortal", str(log), "default", 1, values)]
        return lay_out(configs, tmp_path / output, lambda _: None)

    return make


def fits(sweep: Sweep) -> list[int]:
    marks = [run.directory / "fitted" for run in sweep.runs]
    return [len(mark.read_text()) if mark.exists() else 0 for mark in marks]


def kinds(events: list[Event], directory: Path) -> list[str]:
    return [event.kind for event in events if event.directory == directory]


def behave(*behaviours: str) -> list[dict[str, Any]]:
    return [{"model.behaviour": behaviour} for behaviour in behaviours]


def test_whatever_dies_is_tried_again_and_what_says_why_is_not(laid_out, machines: TwoMachines) -> None:
    settings = [*behave("fit", "diverge", "bug", "die", "last second"), {"trainer.accelerator": "gpu"}]
    sweep = laid_out(*settings)
    local = laid_out(*behave("fit"), {"trainer.accelerator": "gpu"}, output="local")
    (machines.folder / "first-second").touch()
    events: list[Event] = []
    compute(sweep, RayRunner(machines.address, jobs=1, tries=3), events.append, lambda: None)
    fine, diverged, bug, died, last_second, on_gpu = [run.directory for run in sweep.runs]
    problems = {event.directory: event.problem for event in events if event.kind == "failed"}
    assert set(problems) == {diverged, bug, died}
    assert problems[diverged] == "The loss is not a number at step 3; lower trainer.learning_rate."
    assert "shapes do not match" in problems[bug]
    assert "killed by signal 9" in problems[died]
    # Two workers are lost in their first or last second; which run had the first of them is chance.
    losses = [event for event in events if event.kind == "lost"]
    assert len(losses) == 2 + 2
    assert all(event.problem.endswith(("Try 2 of 3 follows.", "Try 3 of 3 follows.")) for event in losses)
    assert any("worker" in event.problem.lower() for event in losses if event.directory == last_second)
    assert kinds(events, last_second)[-1] == "finished"
    assert not (machines.folder / "first-second").exists()
    # Lost in the first second it had not begun, and lost in the last second it was finished: one fit each.
    assert dict(zip([run.directory for run in sweep.runs], fits(sweep), strict=True)) == {
        fine: 1, diverged: 1, bug: 1, last_second: 1, on_gpu: 1, died: fits(sweep)[3]
    }  # fmt: skip
    assert fits(sweep)[3] in (2, 3)
    assert [(run / "gpus").read_text() for run in (fine, on_gpu)] == ["", "0"]
    compute(local, LocalRunner(1, 1), lambda _: None, lambda: None)
    for one, other in zip([fine, on_gpu], local.runs, strict=True):
        assert pl.read_parquet(one / METRICS_FILE).equals(pl.read_parquet(other.directory / METRICS_FILE))


def test_ctrl_c_ends_the_runs_in_order(laid_out, machines: TwoMachines) -> None:
    sweep = laid_out(*behave("wait"))
    directory = sweep.runs[0].directory

    def press() -> None:
        if (directory / "waiting").exists():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compute(sweep, RayRunner(machines.address), lambda _: None, press)
    assert (directory / "checkpointed").exists()
    assert Run(directory).state == "unfinished"


def test_when_the_command_is_killed_its_runs_end_and_go_on_later(
    laid_out, machines: TwoMachines, log: Path, tmp_path: Path
) -> None:
    words = ["run", "mortal", "model.behaviour=wait", "--data", str(log), "--output", str(tmp_path / "runs")]
    command = [sys.executable, "-m", "recascade.cli.main", *words, "--ray-address", machines.address]
    process = subprocess.Popen(command, start_new_session=True)
    sweep = laid_out(*behave("wait"))
    directory = sweep.runs[0].directory
    assert eventually((directory / "waiting").exists, process)
    process.kill()
    process.wait()
    events: list[Event] = []
    compute(sweep, LocalRunner(1, 1), events.append, lambda: None)
    assert [event.kind for event in events] == ["started", "finished"]
    assert fits(sweep) == [2]


def eventually(condition: Callable[[], bool], process: subprocess.Popen[bytes] | None = None) -> bool:
    deadline = time.monotonic() + 120
    while not condition() and time.monotonic() < deadline and (process is None or process.poll() is None):
        time.sleep(0.1)
    return condition()


def test_more_threads_than_any_machine_has_are_refused(laid_out, machines: TwoMachines) -> None:
    with pytest.raises(ConfigurationError, match=r"has 64 CPU cores .*at most 1 cores"):
        compute(laid_out({}), RayRunner(machines.address, threads=64), lambda _: None, lambda: None)


def test_a_run_goes_on_elsewhere_when_its_machine_is_lost(
    laid_out, machines: TwoMachines, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = laid_out({"model.behaviour": "wait"}, {"model.behaviour": "wait", "model.width": 16})
    directories = [run.directory for run in sweep.runs]
    lost: list[Path] = []

    def pulse() -> None:
        waiting = [run / "waiting" for run in directories]
        if lost or not all(mark.exists() and mark.read_text() for mark in waiting):
            return
        lost.extend(mark.parent for mark in waiting if machines.on_the_second(int(mark.read_text())))
        machines.lose_the_second()
        for run in directories:
            if run not in lost:
                (run / "go on").touch()

    events: list[Event] = []
    with SweepDisplay(total=2, done=0, metric="ndcg@10") as display:

        def watch(event: Event) -> None:
            events.append(event)
            display.watch(event)

        compute(sweep, RayRunner(machines.address), watch, pulse)
    assert "The machine of the run was lost. Try 2 of 5 follows." in capsys.readouterr().err
    assert display.failures == {}
    assert len(lost) == 1
    for run in directories:
        if run in lost:
            assert kinds(events, run) == ["started", "lost", "started", "finished"]
            # The process of the first try wrote its checkpoint before the second one began in the same folder.
            assert (run / "in order").exists()
        else:
            assert kinds(events, run) == ["started", "finished"]
    assert sorted(fits(sweep)) == [1, 2]
    again: list[Event] = []
    compute(sweep, RayRunner(machines.address), again.append, lambda: None)
    assert again == []
