"""Where imported data sets and cached splits are kept."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder named by the environment variable RECASCADE_HOME, or ``~/.cache/recascade``."""
    return Path(os.environ.get("RECASCADE_HOME") or "~/.cache/recascade").expanduser()
