"""The stages: what `stage=<name>` trains and how it is scored."""
