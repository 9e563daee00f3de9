"""Addresses of filesystems other than this machine's, told from paths. Importable without pyarrow."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def is_address(text: str) -> bool:
    """Whether a text is an address of a filesystem (``scheme://…``) and no path.

    >>> is_address("s3://bucket/log.csv"), is_address("data/log.csv")
    (True, False)
    """
    return _ADDRESS.match(text) is not None


def shown(address: str) -> str:
    """The address without what may be secret in it: user, password and query.

    >>> shown("s3://KEY:SECRET@bucket/log.csv?region=eu-west-1")
    's3://bucket/log.csv'
    """
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
