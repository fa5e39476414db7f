"""Account creation: users, wallets and welcome messages. See README.md beside this file."""
