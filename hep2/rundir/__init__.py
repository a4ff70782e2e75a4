"""The run directory: where it is, who may work in it, and each of its files, written and read."""
