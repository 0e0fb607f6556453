"""`python -m taskfleet_operator`."""

import sys

from taskfleet_operator.main import main

sys.exit(main())
