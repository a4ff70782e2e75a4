"""Heads that are not networks."""
