#!/usr/bin/env python3
"""Writes pictures from prompts, as `tfsnap generate` does.

    tools/generate.py --bundle=emoji-demo --prompt="purple heart, noto style" --output=heart.png

--help lists the flags. Neither TensorFlow nor absl is needed.
"""

import sys

from tfsnap.cli import main

if __name__ == "__main__":
    sys.exit(main(["generate", *sys.argv[1:]]))
