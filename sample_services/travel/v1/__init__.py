"""The messages of the travel services, with the Python that protoc makes of them."""
