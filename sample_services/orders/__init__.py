"""Order fulfillment: inventory, payment and shipping, and the saga that joins them. See README.md beside this file."""
