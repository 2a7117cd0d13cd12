"""`python -m cosmos_engine` is the command `cosmos-engine`."""

import sys

from cosmos_engine.cli import main

sys.exit(main())
