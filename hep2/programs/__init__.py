"""What is started from a command line; a folder of its own, as Python searches it for modules."""
