"""`python -m app`: open the lab in a browser, with a demo run where there is no run yet. See `app.launch`."""

import sys

from app.launch import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
