"""Copy numbers from the CPU to a device without waiting for it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def copy_to_device(values: Any, device: torch.device) -> Tensor:
    """Return numbers as a tensor on a device; the copy to a GPU is queued there, and the CPU does not wait."""
    tensor = torch.as_tensor(values)
    return tensor if device.type != "cuda" else tensor.pin_memory().to(device, non_blocking=True)
