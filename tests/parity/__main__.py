"""Runs the comparison: `python -m tests.parity` (make parity)."""

import sys

from tests.parity.items import main

if __name__ == "__main__":  # and not in the processes that it starts
    sys.exit(main())
