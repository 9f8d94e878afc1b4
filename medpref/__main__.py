"""``python -m medpref``: the same as the console script."""

import sys

from medpref.cli import main

if __name__ == "__main__":
    sys.exit(main())
