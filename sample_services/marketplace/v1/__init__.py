"""The messages of the marketplace, with the Python that protoc makes of them."""
