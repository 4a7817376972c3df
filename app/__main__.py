"""`python -m app`, installed as `preference-lab-app`: open the lab in a browser; see `app.launch`."""

from __future__ import annotations

import sys

from app.launch import main as launch


def main() -> int:
    """Serve the dashboard with the arguments of `sys.argv` and return the exit code."""
    return launch(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
