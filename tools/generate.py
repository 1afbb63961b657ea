"""Writes pictures from prompts: python tools/generate.py --bundle=DIR --prompt=TEXT --output=x.png

The same as `tfsnap generate`; --help lists the flags.
"""

import sys

from tfsnap.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
