# SPDX-License-Identifier: MIT
"""``python -m xsaveschema``: the command line."""

from xsaveschema.cli import main

if __name__ == "__main__":
    main()
