"""`python -m lab export`: write a run's model as a folder that transformers and peft load without the lab."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Declare the command."""
    p = commands.add_parser(
        "export",
        help="write a run's model for transformers and peft",
        description="Write a run's trained model (or adapter) with its tokenizer and a model card into a new folder.",
    )
    p.add_argument("run_name", metavar="RUN", help="its folder, its name from `runs`, or the beginning of that name")
    p.add_argument("folder", metavar="FOLDER", type=Path, help="a folder that does not exist yet, or is empty")
    p.add_argument("--merged", action="store_true", help="the model with the adapter merged into it, instead of the adapter")
    p.add_argument("--step", type=int, metavar="N", help="step of the checkpoint (default: the best, else the latest)")
    p.add_argument("--dtype", metavar="TYPE", help="float32 or bfloat16 (default: as in the checkpoint; merged: float32)")
    p.add_argument("--trl", action="store_true", help="also the pairs and a script that does the same training in TRL")
    p.set_defaults(run=export)


def export(options: argparse.Namespace) -> int:
    """Write the folder and print its path."""
    import lab

    def report_progress(message: str, share: float) -> None:
        if share < 1:
            print(message, file=sys.stderr)

    what = "merged" if options.merged else None
    run = lab.open_run(options.run_name)
    folder = lab.export_run(
        run, options.folder, what=what, step=options.step, dtype=options.dtype, trl_script=options.trl, progress=report_progress
    )
    print(folder)
    return 0
