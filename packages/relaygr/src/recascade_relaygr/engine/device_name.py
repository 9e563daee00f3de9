"""Names of devices, as a user may give them."""

from __future__ import annotations

import torch

from recascade.errors import ConfigurationError


def check_device(key: str, name: str) -> None:
    """Refuse a device that is not there.

    Args:
        key: of the setting, for the message.
        name: of the device: ``cpu``, ``cuda``, ``cuda:1``.

    Raises:
        ConfigurationError: it is neither the CPU nor a GPU that PyTorch sees.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    there = device is not None and (
        device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < torch.cuda.device_count())
    )
    if not there:
        raise ConfigurationError(f"{key} is {name!r}; it must be cpu, or cuda where PyTorch sees a GPU.")
