"""A marketplace: orders from several sellers, each parcel a saga of its own. See README.md beside this file."""
