"""Numbers that the host makes for a device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def copy_to_device(values: Any, device: torch.device) -> Tensor:
    """Numbers as a tensor on a device. Nobody waits for a GPU to finish what it was given before: the copy stands in its queue."""
    found = torch.as_tensor(values)
    return found if device.type != "cuda" else found.pin_memory().to(device, non_blocking=True)
