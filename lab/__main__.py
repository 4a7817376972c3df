"""The command line: `python -m lab`, installed as `preference-lab`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def _interrupted(*_: Any) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(130)


def main() -> int:
    """Run the command line with `sys.argv` and return its exit code."""
    signal.signal(signal.SIGINT, _interrupted)  # an import that is interrupted would end in a traceback
    from lab.cli import main as run
    from lab.cli.interrupting import interruption, leave

    if sys.argv[1:2] == ["train"]:
        interruption.install()
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    exit_code = run(sys.argv[1:])
    if exit_code == interruption.code:
        leave(exit_code)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
