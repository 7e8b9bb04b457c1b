"""`python -m fused_gan.cli` is the command `fused-gan`."""

import sys

from fused_gan.cli.main import main

sys.exit(main())
