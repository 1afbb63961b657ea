"""Measures a bundle: python tools/benchmark.py --bundle=DIR --threads=2 --json=r.json

The same as `tfsnap benchmark`; --help lists the flags.
"""

import sys

from tfsnap.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
