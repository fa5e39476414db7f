"""The gRPC services: requests checked, errors mapped, state shown."""
