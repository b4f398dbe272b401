"""Benchmarks: `python -m benchmarks.<name>`; each measures peers and bound side by side in one run."""
