"""Figures that need a GPU; each runs on a CPU as well, on less, to show that it works."""
