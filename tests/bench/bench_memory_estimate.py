"""How near the estimate of a run's memory comes to its measured peak, over several shapes, each in a process of its own.

python -m tests.bench.bench_memory_estimate [NAME ...]

The peak is that of the whole process (VmHWM: Python, libraries, loading, training, an evaluation, a checkpoint).
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from tests.training.measured_memory import measured

SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "world": ("world 0 0 0 0", {}),
    "vocabulary 50k": ("gpt2 384 6 50257 120", {}),
    "wide": ("llama 1536 3 8000 60", {}),
    "long": ("llama 256 6 2000 600", {}),
    "lora": ("llama 768 8 8000 150", {"lora_rank": 8}),
    "checkpointing": ("llama 512 8 4000 400", {"gradient_checkpointing": True}),
    "micro-batches": ("llama 768 6 8000 200", {"micro_batch_size": 2}),
    "no evaluation": ("llama 768 6 8000 200", {"evaluate": False, "probe_budget": 0}),
}
"""Name -> shape and settings, see `tests.training.measured_memory`."""


def main() -> None:
    """Print a table: estimate, measured, ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"shapes to measure, of: {', '.join(SHAPES)} (default: all)")
    names = parser.parse_args().names or list(SHAPES)
    print(f"{'shape':<18}{'estimate':>10}{'measured':>10}{'ratio':>7}   of which (MB)")
    with tempfile.TemporaryDirectory() as place:
        for name in names:
            shape, settings = SHAPES[name]
            row = measured(Path(place) / name.replace(" ", "-"), shape, settings)
            parts = ", ".join(f"{part} {(value or 0) / 1e6:,.0f}" for part, value in row["parts"].items())
            estimate, peak = row["estimated"], row["measured"]
            print(f"{name:<18}{estimate / 1e6:>7,.0f} MB{peak / 1e6:>7,.0f} MB{estimate / peak:>7.2f}   {parts}", flush=True)


if __name__ == "__main__":
    main()
