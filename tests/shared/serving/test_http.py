from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from recascade.errors import ConfigurationError, DataError, MissingDependencyError
from recascade.serving.http import LARGEST_BODY, Route, application, serve
from recascade.serving.metrics import Metrics
from recascade.serving.parameters import RequestError, check_names, text, texts, whole_number

SERVICE = """
import sys, time
from recascade.serving.http import Route, application, serve
from recascade.serving.metrics import Metrics

def answer(values):
    time.sleep(float(values.get("seconds", 0)))
    return {"slept": values["seconds"]}

app = application([Route("GET", "/sleep", answer)], Metrics(), close=lambda: print("closed", flush=True))
serve(app, "127.0.0.1", 0, announce=lambda url: print(url, flush=True))
print("ended", flush=True)
"""


def echo(values: Mapping[str, Any]) -> Any:
    if "odd" in values:
        raise RequestError("That is odd.")
    if "inner" in values:
        raise DataError("The index is of another model.")
    if "bug" in values:
        raise ZeroDivisionError("secret detail")
    return {"echo": dict(values)}


Ask = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """A service in a thread, stopped by closing its server."""
    uvicorn = pytest.importorskip("uvicorn")
    pytest.importorskip("starlette")
    metrics = Metrics()
    metrics.follow("counter", "store_fallbacks", "Reads without the store.", lambda: 3)
    metrics.follow("gauge", "index_items", "Items.", lambda: 7)
    metrics.follow_facts("versions", "What serves.", lambda: {"model": "12"})
    app = application([Route("GET", "/echo", echo), Route("POST", "/echo", echo)], metrics, health=lambda: {"items": 7})
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.005)
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join()


@pytest.fixture
def ask(address: tuple[str, int]) -> Ask:
    def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(*address, timeout=10)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        is_json = response.headers["content-type"] == "application/json"
        return response.status, json.loads(content) if is_json else content.decode()

    return call


def test_parameters_come_from_the_query_or_the_body(ask: Ask) -> None:
    assert ask("GET", "/echo?user=%C3%BC+1&k=3") == (200, {"echo": {"user": "ü 1", "k": "3"}})
    assert ask("POST", "/echo", {"users": ["ü", "2"], "k": 3}) == (200, {"echo": {"users": ["ü", "2"], "k": 3}})


def test_health_tells_its_facts(ask: Ask) -> None:
    assert ask("GET", "/health") == (200, {"status": "ok", "items": 7})


@pytest.mark.parametrize(
    ("request_", "status", "sentence"),
    [
        (("GET", "/echo?odd=1"), 400, "That is odd."),
        (("GET", "/echo?inner=1"), 500, "The index is of another model."),
        (("GET", "/echo?bug=1"), 500, "The service failed to answer (ZeroDivisionError); its log says where."),
        (("GET", "/ecko"), 404, "There is nothing at /ecko. Did you mean '/echo'?"),
        (("PUT", "/echo"), 405, "/echo cannot be asked with PUT."),
        (("POST", "/echo", b"{"), 400, "The body is not JSON"),
        (("POST", "/echo", [1]), 400, "must be a JSON object"),
        (("POST", "/echo", b" " * (LARGEST_BODY + 1)), 400, "larger than 1,048,576 bytes"),
    ],
)
def test_every_failure_is_a_sentence(ask: Ask, request_: tuple[Any, ...], status: int, sentence: str) -> None:
    found, answer = ask(*request_)
    assert found == status and list(answer) == ["error"] and sentence in answer["error"]


def test_metrics_count_every_answer_of_a_route(ask: Ask) -> None:
    def count(page: str, line: str) -> float:
        return sum(float(each.split()[-1]) for each in page.splitlines() if each.startswith(line))

    lines = ('recascade_request_seconds_count{route="GET /echo"}', 'recascade_answers_total{route="GET /echo"')
    _, before = ask("GET", "/metrics")
    ask("GET", "/echo?user=1")
    ask("GET", "/echo?bug=1")
    ask("POST", "/echo", {})
    _, after = ask("GET", "/metrics")
    assert [count(after, line) - count(before, line) for line in lines] == [2, 2]
    assert 'recascade_answers_total{route="GET /echo",status="500"}' in after
    assert 'recascade_request_seconds_bucket{le="0.002",route="POST /echo"}' in after
    for line in ("store_fallbacks_total 3.0", "index_items 7.0", 'versions_info{model="12"} 1.0'):
        assert line in after.splitlines()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_service_after_the_request_under_way(number: int) -> None:
    pytest.importorskip("uvicorn")
    # As the command line does, so that the process ends by itself.
    program = "import signal; signal.signal(signal.SIGTERM, signal.default_int_handler)\n" + SERVICE
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/sleep?seconds=0.5")
        time.sleep(0.2)
        process.send_signal(number)
        assert json.loads(connection.getresponse().read()) == {"slept": "0.5"}
        assert process.wait(timeout=20) == 0
        assert process.stdout.read().split() == ["closed", "ended"]


def test_a_port_in_use_is_a_sentence() -> None:
    app = application([], Metrics())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"Port {port} of 127.0.0.1 is in use; choose another"):
            serve(app, "127.0.0.1", port, announce=print)
    with pytest.raises(ConfigurationError, match="There is no address 'no host at all'"):
        serve(app, "no host at all", 0, announce=print)


def test_missing_packages_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "recascade\[serve\]"'):
        application([], metrics)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "recascade\[serve\]"'):
        Metrics()


def test_parameters_are_read_as_what_they_are() -> None:
    values = {"user": "7", "k": "20", "users": ["1", 2], "number": 5}
    check_names(values, ("user", "k", "users", "number"))
    assert text(values, "user") == "7" and text(values, "number") == "5"
    assert texts(values, "users", most=2) == ["1", "2"]
    assert whole_number(values, "k", 10, 1, 100) == 20 and whole_number({}, "k", 10, 1, 100) == 10


@pytest.mark.parametrize(
    ("read", "sentence"),
    [
        (lambda: check_names({"usr": "1"}, ("user", "k")), "There is no parameter 'usr'. Did you mean 'user'?"),
        (lambda: text({}, "user"), "'user' is missing"),
        (lambda: text({"user": ""}, "user"), "must be a text that is not empty"),
        (lambda: text({"user": True}, "user"), "but holds True"),
        (lambda: texts({"users": "1"}, "users", 3), "must be a list of 1 to 3 texts"),
        (lambda: texts({"users": ["1"] * 4}, "users", 3), "must be a list of 1 to 3 texts"),
        (lambda: texts({"users": [None]}, "users", 3), "but holds None"),
        (lambda: whole_number({"k": "ten"}, "k", 1, 1, 9), "is 'ten'; it must be a whole number from 1 to 9"),
        (lambda: whole_number({"k": 10}, "k", 1, 1, 9), "is 10; it must be"),
        (lambda: whole_number({"k": 2.5}, "k", 1, 1, 9), "is 2.5; it must be"),
        (lambda: whole_number({"k": True}, "k", 1, 1, 9), "is True; it must be"),
    ],
)
def test_a_wrong_parameter_is_named(read: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(RequestError) as error:
        read()
    assert sentence in str(error.value)
