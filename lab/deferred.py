"""torch, imported when something is first computed with it.

Importing torch takes 2 to 3 seconds. Names, parameters and settings of a run need none of it, so a run is checked and started
without that wait, and its thread or process imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch as torch
else:

    class _Torch:
        """Stands for the module torch; every attribute is read from it."""

        def __getattr__(self, name: str) -> Any:
            import torch

            return getattr(torch, name)

    torch = _Torch()
