"""One request for one file, going on where an earlier one stopped; nothing that the server says is taken on trust."""

from __future__ import annotations

import errno
import http.client
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from recascade import __version__

Report = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes there will be (None: not known)."""

Answered = Callable[[str, str], None]

_PIECE_BYTES = 1 << 18
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_NETWORK_LOST = (errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EHOSTDOWN)
_WORTH_A_RETRY = (408, 425, 429, 500, 502, 503, 504)


class TransferFailure(Exception):
    """A transfer that did not bring the whole file.

    Attributes:
        reason: a clause for the user.
        retry: whether the same server may do better at the next try.
        offline: whether no server was reached at all.
    """

    def __init__(self, reason: str, *, retry: bool = False, offline: bool = False) -> None:
        super().__init__(reason)
        self.reason, self.retry, self.offline = reason, retry, offline


def transfer(
    url: str, partial: Path, *, size: int | None, version: str, timeout: float, report: Report, answered: Answered
) -> None:
    """Bring the rest of a file into ``partial``.

    Args:
        url: where it lies.
        partial: what earlier transfers brought, if anything; it is removed when it cannot be the beginning of the file.
        size: bytes of the whole file; None: not known.
        version: only go on with a file of this mark (``ETag`` or ``Last-Modified``); empty: any.
        timeout: seconds without a byte after which the server counts as stalled.
        report: is told how far it is.
        answered: is told, before the first byte is kept, the address after redirections and the file's mark there.

    Raises:
        TransferFailure: the file is not whole; what came is kept.
    """
    start = partial.stat().st_size if partial.exists() else 0
    if size is not None and start > size:
        partial.unlink()
        start = 0
    headers = {"User-Agent": f"recascade/{__version__}", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": version} if version else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout) as response:
            start, total = _beginning(response, partial, start, size)
            if not start:
                # Before the mark of the new version is noted, nothing of an older one may be left.
                partial.unlink(missing_ok=True)
            answered(response.geturl(), response.headers.get("ETag") or response.headers.get("Last-Modified", ""))
            _receive(response, partial, start, total, report)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            if error.headers.get("Content-Range") == f"bytes */{start}":
                return
            partial.unlink(missing_ok=True)
            raise TransferFailure("has fewer bytes than were kept of it", retry=True) from error
        answer = f"answers {error.code} {error.reason}".rstrip()
        raise TransferFailure(answer, retry=error.code in _WORTH_A_RETRY) from error
    except TimeoutError as error:
        raise TransferFailure(f"sent nothing for {timeout:g} seconds", retry=True) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise TransferFailure(f"did not answer for {timeout:g} seconds", offline=True) from error
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise TransferFailure(f"has a certificate that is not trusted ({error.reason.verify_message})") from error
        if isinstance(error.reason, ssl.SSLError):
            raise TransferFailure(f"does not speak https ({error.reason.reason})") from error
        raise TransferFailure(f"cannot be reached ({_cause(error.reason)})", offline=True) from error
    except (http.client.HTTPException, ConnectionError, ssl.SSLError) as error:
        raise TransferFailure("broke the connection off", retry=True) from error
    except OSError as error:
        if error.errno not in _NETWORK_LOST:
            raise
        raise TransferFailure(f"was lost ({error.strerror})", retry=True) from error


def _beginning(
    response: http.client.HTTPResponse, partial: Path, start: int, size: int | None
) -> tuple[int, int | None]:
    """The byte that the answer begins with, and the bytes of the whole file as known or claimed."""
    length = response.headers.get("Content-Length", "")
    claimed = int(length) if length.isdecimal() else None
    if response.status == http.client.PARTIAL_CONTENT:
        part = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if part is None or int(part[1]) != start:
            partial.unlink(missing_ok=True)
            raise TransferFailure("sent another part of the file than was asked for", retry=True)
        whole = int(part[3]) if part[3] != "*" else None
    else:
        # A server that ignores the range sends everything again.
        start, whole = 0, claimed
    if size is not None and whole is not None and whole != size:
        raise TransferFailure(f"says that the file has {whole:,} bytes instead of {size:,}")
    return start, size if size is not None else whole


def _receive(response: http.client.HTTPResponse, partial: Path, start: int, total: int | None, report: Report) -> None:
    there = start
    report(there, total)
    with partial.open("ab" if start else "wb") as handle:
        while piece := response.read1(_PIECE_BYTES):
            there += len(piece)
            if total is not None and there > total:
                handle.truncate(0)
                raise TransferFailure(f"sends more than the {total:,} bytes of the file")
            handle.write(piece)
            report(there, total)
    if total is not None and there < total:
        raise TransferFailure(f"ended the connection after {there:,} of {total:,} bytes", retry=True)


def _cause(reason: object) -> str:
    return str(getattr(reason, "strerror", None) or reason)
