"""The command line: python -m lab train | runs | show | queue | pairs | world | export | bench."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def _interrupted(*_: Any) -> None:
    os.write(2, b"Interrupted.\n")
    os._exit(130)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _interrupted)  # an import that is interrupted would end in a traceback
    from lab.cli import main
    from lab.cli.interrupting import interruption, leave

    if sys.argv[1:2] == ["train"]:
        interruption.install()
    else:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    exit_code = main(sys.argv[1:])
    if exit_code == interruption.code:
        leave(exit_code)
    sys.exit(exit_code)
