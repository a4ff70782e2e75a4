"""One small program a question; `make bench` runs those with a target and prints one table."""
