"""Heads that are no networks."""
