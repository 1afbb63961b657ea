#!/usr/bin/env python3
"""Measures the latency and memory of a bundle, as `tfsnap benchmark` does.

    tools/benchmark.py --bundle=emoji-demo --threads=2 --json=latency.json

--help lists the flags. Neither TensorFlow nor absl is needed.
"""

import sys

from tfsnap.cli import main

if __name__ == "__main__":
    sys.exit(main(["benchmark", *sys.argv[1:]]))
