"""The messages of the account services, with the Python that protoc makes of them."""
