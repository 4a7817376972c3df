"""`python -m app`: serve the dashboard, with a demo run if there is no run yet. See `app.launch`."""

import sys

from app.launch import main as launch


def main() -> int:
    """Serve the dashboard with the arguments of `sys.argv` and return the exit code."""
    return launch(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
