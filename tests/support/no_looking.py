"""Fails where code reads a value out of a tensor, or makes a tensor whose shape follows from values.

On an accelerator each of these makes the host wait for the device, and none may stand in a CUDA graph.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten
LOOKS = {
    _aten._local_scalar_dense,
    _aten.nonzero,
    _aten.masked_select,
    _aten._unique2,
    _aten.unique_dim,
    _aten.unique_consecutive,
    _aten.bincount,
    _aten.is_nonzero,
    _aten.equal,
}


class NoLooking(TorchDispatchMode):
    """Raises at the first operator that looks at data."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        lengths_unknown = func is _aten.repeat_interleave.Tensor and not (kwargs or {}).get("output_size")
        if func.overloadpacket in LOOKS or lengths_unknown:
            raise AssertionError(f"{func} looks at data.")
        masked = func in (_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default)
        if masked and any(place is not None and place.dtype == torch.bool for place in args[1]):
            raise AssertionError(f"{func} with a mask looks at data.")
        return func(*args, **(kwargs or {}))
