"""`python -m xiqa.cli`: the same as the command `xiqa`."""

import sys

from xiqa.cli import main

if __name__ == "__main__":
    sys.exit(main())
