"""`python -m vzarr` is the command line."""

from __future__ import annotations

import sys

from vzarr.cli import main

if __name__ == "__main__":
    sys.exit(main())
