"""The messages of the banks, with the Python that protoc makes of them."""
