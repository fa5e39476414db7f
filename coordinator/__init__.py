"""The saga coordinator: drives sagas through their participants and journals every step of the way."""
