"""A purchase: payment accounts, merchants, the warehouse and notifications. See README.md beside this file."""
