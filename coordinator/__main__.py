"""`python -m coordinator` is the command `saga`."""

from coordinator.cli import main

main()
