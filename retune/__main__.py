"""``python -m retune`` is ``retune``."""

import sys

from retune.cli.main import main

sys.exit(main())
