"""The pure core: what follows from what. No clock, no I/O, no randomness, no event loop, no gRPC."""
