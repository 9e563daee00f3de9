"""How much of a log is held at a time: a share of the memory. Whatever is larger is worked through in pieces."""

from __future__ import annotations

import os
import re
from pathlib import Path

from recascade.errors import ConfigurationError

VARIABLE = "RECASCADE_MEMORY"
# Our choice, measured: ordering and assigning a piece of a log takes at most 400 bytes an event.
BYTES_PER_EVENT = 400
SHARE = 0.25

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def events_at_a_time() -> int:
    """Events that may be held together: those that take a quarter of the memory while they are worked on, at least 1.

    The result of no step depends on it; a piece is of whole users, so that a user with more events is still taken
    whole.
    """
    return max(1, int(memory_bytes() * SHARE / BYTES_PER_EVENT))


def memory_bytes() -> int:
    """Bytes that this process may use: ``RECASCADE_MEMORY`` (``4GB``), else the smallest limit that the system names.

    Raises:
        ConfigurationError: the environment variable is no amount of memory.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if text:
        amount = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?B?)", text.upper())
        if amount is None or amount[2] in ("K", "M", "G", "T"):
            raise ConfigurationError(
                f"The environment variable {VARIABLE} is {text!r}, which is no amount of memory; write bytes, 512MB or "
                "4GB."
            )
        return int(float(amount[1]) * _UNITS[amount[2]])
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *_control_group_limits()])


def _control_group_limits() -> list[int]:
    """Limits of the process's control groups (Linux, versions 1 and 2) and of those above; none elsewhere."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    limits = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            root, file = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, file = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        group = root / name.lstrip("/")
        # In a container the name may be the host's; then only the root is there.
        for folder in (group, *group.parents):
            if folder.is_relative_to(root) and (folder / file).is_file():
                text = (folder / file).read_text(encoding="utf-8").strip()
                limits.extend([int(text)] if text.isdigit() else [])
    return limits
