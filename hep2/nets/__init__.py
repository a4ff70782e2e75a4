"""The networks, and the table that builds them by name."""
