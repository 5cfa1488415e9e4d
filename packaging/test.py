"""Set Lorimer up with what its developers need, then check everything: `python3 packaging/test.py`.

Needs nothing but Python 3.11 or newer. This file stays readable for older ones, so that they can say so.
"""

import sys

if sys.version_info < (3, 11):
    sys.stderr.write(
        "Lorimer needs Python 3.11 or newer, and this is Python %d.%d: "
        "install a newer one from https://www.python.org/downloads/ and start this file with it.\n"
        % sys.version_info[:2]
    )
    sys.exit(1)

import setup_commands

if __name__ == "__main__":
    sys.exit(setup_commands.test(sys.argv[1:]))
