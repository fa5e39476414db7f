"""The messages of the purchase services, with the Python that protoc makes of them."""
