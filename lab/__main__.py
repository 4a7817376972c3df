"""The command line: python -m lab train | runs | show | pairs | world | bench."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from lab.cli.interrupting import interruption, leave

    if sys.argv[1:2] == ["train"]:
        interruption.install()
    from lab.cli import main

    exit_code = main(sys.argv[1:])
    if exit_code == interruption.code:
        leave(exit_code)
    sys.exit(exit_code)
