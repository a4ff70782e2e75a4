"""From the probabilities of cells to what is said of their specimen. Pure functions."""
