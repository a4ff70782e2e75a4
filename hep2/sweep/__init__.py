"""Sweeps: many runs on one machine, each a process of its own."""
