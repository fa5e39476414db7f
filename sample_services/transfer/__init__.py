"""Money transfer: two banks, and the sagas that move money between their accounts. See README.md beside this file."""
