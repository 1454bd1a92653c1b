"""``python -m softhebb_fast`` is the command ``softhebb-fast``."""

import sys

from softhebb_fast.cli import main

sys.exit(main())
