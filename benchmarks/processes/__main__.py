"""``python -m benchmarks.processes``: see `measure`."""

import sys

from benchmarks.processes.measure import main

if __name__ == "__main__":
    sys.exit(main())
