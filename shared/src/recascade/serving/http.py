"""A small HTTP service: JSON in, JSON out, errors as sentences, ``/health`` and ``/metrics``."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from recascade.errors import ConfigurationError, MissingDependencyError, RecascadeError, did_you_mean
from recascade.serving.metrics import Metrics
from recascade.serving.parameters import ForbiddenError, RequestError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

LARGEST_BODY = 1 << 20
"""Bytes of a request's body."""
_PAGE_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Route:
    """One thing that the service can be asked.

    Attributes:
        method: ``GET``, whose parameters are the texts of the query string, or ``POST``, whose parameters are a JSON
            object.
        path: such as ``/recommend``.
        answer: from the parameters to anything JSON can say; called in one of the service's threads.
        local: whether only this machine may ask, whatever address the service listens at: for what changes the service.
    """

    method: Literal["GET", "POST"]
    path: str
    answer: Callable[[Mapping[str, Any]], Any]
    local: bool = False


def application(
    routes: Sequence[Route],
    metrics: Metrics,
    *,
    health: Callable[[], Mapping[str, Any]] = dict,
    threads: int = 4,
    close: Callable[[], None] = lambda: None,
    page: str | None = None,
) -> Starlette:
    """An ASGI application that answers these routes, and ``GET /health`` and ``GET /metrics``.

    A ``RequestError`` is answered with status 400 (``ForbiddenError``: 403) and ``{"error": sentence}``, any other
    error with 500: a ``RecascadeError`` with its sentence, the unforeseen with a general one, its traceback going to
    the log.

    Args:
        routes: what the service answers.
        metrics: where it notes how long it took.
        health: facts to tell beside ``"status": "ok"``.
        threads: answers computed at a time; while one waits for a store, another computes.
        close: called after the last answer.
        page: HTML to show at ``/``, where people look; it may load nothing from elsewhere.

    Raises:
        MissingDependencyError: starlette or orjson is not installed.
    """
    _check_installed()
    import starlette.applications
    import starlette.exceptions
    import starlette.requests
    import starlette.responses
    import starlette.routing

    pool = ThreadPoolExecutor(threads, thread_name_prefix="answer")
    paths = sorted({route.path for route in routes} | {"/health", "/metrics"})

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        pool.shutdown()
        close()

    async def tell_health(_: Request) -> Response:
        return _json({"status": "ok", **health()})

    async def tell_metrics(_: Request) -> Response:
        return starlette.responses.Response(metrics.page(), media_type="text/plain; version=0.0.4")

    async def show_page(_: Request) -> Response:
        return starlette.responses.HTMLResponse(page or "", headers={"content-security-policy": _PAGE_POLICY})

    async def refuse(request: Request, error: Exception) -> Response:
        status = getattr(error, "status_code", 500)
        if status == 404:
            hint = did_you_mean(request.url.path, paths)
            return _json({"error": f"There is nothing at {request.url.path}.{hint}"}, 404)
        return _json({"error": f"{request.url.path} cannot be asked with {request.method}."}, status)

    by_path: dict[str, dict[str, Route]] = {}
    for route in routes:
        by_path.setdefault(route.path, {})[route.method] = route
    endpoints = [
        starlette.routing.Route(path, _endpoint(methods, metrics, pool), methods=list(methods))
        for path, methods in by_path.items()
    ]
    return starlette.applications.Starlette(
        routes=[
            *endpoints,
            starlette.routing.Route("/health", tell_health),
            starlette.routing.Route("/metrics", tell_metrics),
            *([] if page is None else [starlette.routing.Route("/", show_page)]),
        ],
        exception_handlers={starlette.exceptions.HTTPException: refuse},
        lifespan=lifespan,
    )


def serve(
    application: Starlette,
    host: str,
    port: int,
    *,
    announce: Callable[[str], None],
    grace_seconds: int = 10,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C, then finish those under way.

    Args:
        application: what answers.
        host: address to listen at; ``127.0.0.1`` is reachable from this machine alone.
        port: 0 takes any free one.
        announce: told the service's URL as soon as it accepts connections.
        grace_seconds: how long to wait for requests under way at the end.

    Raises:
        ConfigurationError: host and port cannot be listened at.
        MissingDependencyError: uvicorn is not installed.
    """
    _check_installed()
    import uvicorn

    listener = _listen(host, port)
    with listener:
        config = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="on",
            timeout_graceful_shutdown=grace_seconds,
        )
        server = uvicorn.Server(config)
        shown = f"[{host}]" if ":" in host else host
        announce(f"http://{shown}:{listener.getsockname()[1]}")
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            # The server has finished its requests and raises the signal that stopped it once more.
            _log.info("stopped")


def _endpoint(
    routes: Mapping[str, Route], metrics: Metrics, pool: ThreadPoolExecutor
) -> Callable[[Request], Awaitable[Response]]:
    observers = {method: metrics.observer(f"{method} {route.path}") for method, route in routes.items()}

    async def endpoint(request: Request) -> Response:
        start = perf_counter()
        # Starlette lets HEAD in wherever GET is.
        method = "GET" if request.method == "HEAD" else request.method
        try:
            if routes[method].local:
                _check_local(request)
            values = await _body(request) if method == "POST" else dict(request.query_params)
            answer = routes[method].answer
            status, content = 200, await asyncio.get_running_loop().run_in_executor(pool, answer, values)
            response = _json(content)
        except ForbiddenError as error:
            status, response = 403, _json({"error": str(error)}, 403)
        except RequestError as error:
            status, response = 400, _json({"error": str(error)}, 400)
        except RecascadeError as error:
            _log.error("%s could not be answered: %s", request.url.path, error)
            status, response = 500, _json({"error": str(error)}, 500)
        except Exception as error:
            _log.exception("%s could not be answered", request.url.path)
            sentence = f"The service failed to answer ({type(error).__name__}); its log says where."
            status, response = 500, _json({"error": sentence}, 500)
        observers[method](status, perf_counter() - start)
        return response

    return endpoint


def _check_local(request: Request) -> None:
    """Refuse what does not come from a program on this machine that means it.

    Neither a page of another site in a browser here may ask (a foreign name in ``Host``, or a body that is not declared
    as JSON, which browsers send anywhere without asking), nor the world behind a proxy that runs here.
    """
    client = request.client.host if request.client else ""
    headers = request.headers
    named = headers.get("host", "").rsplit(":", 1)[0].strip("[]")
    forwarded = any(name in headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))
    if forwarded or not _is_loopback(client) or not (named == "localhost" or _is_loopback(named)):
        raise ForbiddenError(f"{request.url.path} can be asked from this machine only, at 127.0.0.1 or localhost.")
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise ForbiddenError(f"{request.url.path} wants the header 'content-type: application/json'.")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


async def _body(request: Request) -> Mapping[str, Any]:
    import orjson

    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST_BODY:
            raise RequestError(f"The body is larger than {LARGEST_BODY:,} bytes; send several requests.")
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"The body is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise RequestError("The body must be a JSON object with the parameters by name.")
    return values


def _json(content: Any, status: int = 200) -> Response:
    # The standard library takes twenty times as long for a hundred items and scores (63 µs, and 3 µs here).
    import orjson
    from starlette.responses import Response

    return Response(orjson.dumps(content), status, media_type="application/json")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"There is no address {host!r} with port {port} on this machine ({error}).") from error
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened at ({error.strerror})"
        raise ConfigurationError(f"Port {port} of {host} {reason}; choose another one with --port.") from error
    return listener


def _check_installed() -> None:
    try:
        import orjson  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError(
            'Serving needs starlette, uvicorn and orjson: pip install "recascade[serve]"'
        ) from error
