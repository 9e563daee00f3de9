"""The service of a run's folder, over HTTP, with newer checkpoints as they come."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from served_learners import ITEMS, Trained, settings, write_run

from recascade.errors import ConfigurationError, DataError
from recascade.serving.item_index import FlatIndex
from recascade_cs3.run_folder import ONLINE_FOLDER, write_model
from recascade_cs3.serve import _Follower, open_newest, serve
from recascade_cs3.service import CS3Service
from recascade_cs3.snapshot import take_snapshot


def test_a_run_folder_is_opened_as_it_was_left(tmp_path: Path) -> None:
    trained = Trained(settings())
    write_run(trained, tmp_path)
    _, learner, users, items = open_newest(tmp_path)
    answer, versions = CS3Service(take_snapshot(learner, users, items, FlatIndex), trained.store()).recommend(["u3"], 9)
    assert (answer, versions) == trained.service().recommend(["u3"], 9)


def test_folders_and_settings_that_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no run of CS3"):
        serve(tmp_path, {})
    trained = Trained(settings(), ticks=1)
    write_model(tmp_path, trained.learner.config, 0)
    with pytest.raises(DataError, match="has no checkpoint yet"):
        serve(tmp_path, {})
    with pytest.raises(ConfigurationError, match=r"Did you mean 'serve\.index'"):
        serve(tmp_path, {"serve.indx": "flat"})
    with pytest.raises(ConfigurationError, match=r"serve\.index is 'flt'\. Did you mean 'flat'"):
        serve(tmp_path, {"serve.index": "flt"})


def test_following_goes_on_after_a_checkpoint_that_could_not_be_prepared(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_run(Trained(settings(), ticks=1), tmp_path)
    published, tries = threading.Event(), []

    def publish(*_: Any) -> None:
        tries.append(None)
        if len(tries) == 1:
            raise IndexError("a row too far")
        published.set()

    follower = _Follower(tmp_path, tmp_path / "none", publish)
    follower.start(0.01)
    assert published.wait(20)
    follower.stop()
    assert "could not be prepared; the next look tries again" in caplog.text and len(tries) == 2


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Trained, Path, int]]:
    """A benchmark run's folder behind ``recascade serve``, which looks for new checkpoints ten times a second."""
    pytest.importorskip("uvicorn")
    trained = Trained(settings())
    write_run(trained, tmp_path / ONLINE_FOLDER)
    program = (
        "from pathlib import Path; from recascade.serving.http import serve as run;"
        "from recascade_cs3.serve import serve; import signal;"
        "signal.signal(signal.SIGTERM, signal.default_int_handler);"
        f"application = serve(Path({str(tmp_path)!r}), {{'serve.refresh_seconds': 0.1, 'serve.index': 'flat'}});"
        "run(application, '127.0.0.1', 0, announce=lambda url: print(url, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield trained, tmp_path / ONLINE_FOLDER, int(process.stdout.readline().rsplit(":", 1)[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_over_http_with_newer_checkpoints_and_metrics(served: tuple[Trained, Path, int]) -> None:
    trained, folder, port = served

    def ask(method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request(method, path, None if body is None else json.dumps(body))
        content = connection.getresponse().read().decode()
        connection.close()
        return content if path == "/metrics" else json.loads(content)

    (expected,), versions = trained.service().recommend(["u3"], 4)
    answer = ask("GET", "/recommend?user=u3&k=4")
    assert answer == {**expected.content(), "scores": pytest.approx(expected.scores, abs=1e-6), "versions": versions}
    assert [each["user"] for each in ask("POST", "/recommend", {"users": ["u1", "u2"]})["results"]] == ["u1", "u2"]
    assert ask("GET", "/recommend?usr=u3")["error"] == "There is no parameter 'usr'. Did you mean 'user'?"
    trained.learn(2)
    write_run(trained, folder)
    (newer,), versions = trained.service().recommend(["u3"], 4)
    deadline = time.monotonic() + 20
    while ask("GET", "/health")["versions"] != versions and time.monotonic() < deadline:
        time.sleep(0.05)  # between two looks at another thread's work
    answer = ask("GET", "/recommend?user=u3&k=4")
    assert answer["versions"] == versions and answer["scores"] == pytest.approx(newer.scores, abs=1e-6)
    page = ask("GET", "/metrics")
    assert f'recascade_versions_info{{model="{versions["model"]}",tables="{versions["tables"]}"}} 1.0' in page
    assert "recascade_store_fallbacks_total 0.0" in page and f"recascade_index_items {ITEMS}.0" in page
    assert 'recascade_request_seconds_count{route="GET /recommend"} 3.0' in page
