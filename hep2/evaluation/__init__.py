"""From finished runs to figures that can be believed."""
