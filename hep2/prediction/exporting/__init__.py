"""The formats that networks are handed on in: each is written and read in one module."""
