"""`python -m app`: serve the dashboard, with a demo run if there is no run yet. See `app.launch`."""

import sys

from app.launch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
