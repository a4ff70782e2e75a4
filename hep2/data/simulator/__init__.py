"""Simulated cells: the synthetic data set."""
