"""From finished runs to scores that can be believed."""
