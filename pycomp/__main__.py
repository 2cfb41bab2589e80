"""``python -m pycomp``: the command line."""

import sys

from pycomp.cli import main

if __name__ == "__main__":
    sys.exit(main())
