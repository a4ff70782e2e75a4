"""Finished runs put to use on other cells."""
