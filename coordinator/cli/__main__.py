"""`python -m coordinator.cli` is the console script `saga`."""

from coordinator.cli import main

main()
