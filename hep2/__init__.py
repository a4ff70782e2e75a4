"""Experiments on HEp-2 cell patterns: unsupervised features, evaluated on whole specimens."""

__version__ = "0.1.0"
