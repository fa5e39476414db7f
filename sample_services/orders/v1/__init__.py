"""The messages of the order services, with the Python that protoc makes of them."""
