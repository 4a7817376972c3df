"""The command line: python -m lab train | runs | show | queue | pairs | world | export | bench."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any, NoReturn


def _interrupted(*_: Any) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(130)


def main() -> NoReturn:
    """Run the command in `sys.argv` and exit with its code."""
    signal.signal(signal.SIGINT, _interrupted)  # an interrupted import would end in a traceback
    from lab.cli import main as run_command
    from lab.cli.interrupting import interruption, leave

    if sys.argv[1:2] == ["train"]:
        interruption.install()
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    exit_code = run_command(sys.argv[1:])
    if exit_code == interruption.code:
        leave(exit_code)
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
