"""From a run to the engine that ranks with its model."""

from __future__ import annotations

import torch

from recascade_relaygr.engine.device_name import check_device
from recascade_relaygr.engine.engine import RelayEngine
from recascade_relaygr.relay.config import RelayConfig
from recascade_relaygr.run_folder import ServedRun
from recascade_relaygr.serve_config import ServeConfig


def engine_of(run: ServedRun, config: ServeConfig, relay: RelayConfig, *, instances: int) -> RelayEngine:
    """An engine of so many logical instances; see ``RelayEngine``. The run's model moves to the service's device.

    Raises:
        ConfigurationError: the device is not there, or the configuration cannot work.
    """
    check_device("serve.device", config.device)
    return RelayEngine(
        run.model.to(config.device),
        len(run.items),
        relay,
        version=run.version,
        instances=instances,
        device=config.device,
        state_dtype=getattr(torch, config.precision),
        tolerance=config.tolerance or None,
    )
