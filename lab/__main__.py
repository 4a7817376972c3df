"""The command line: python -m lab train | runs | show | pairs | world | bench."""

from __future__ import annotations

import sys

from lab.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
