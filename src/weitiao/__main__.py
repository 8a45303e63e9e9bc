"""``python -m weitiao``: the command line, where no script of that name is on the path."""

import sys

from weitiao.cli import main

sys.exit(main(sys.argv[1:]))
