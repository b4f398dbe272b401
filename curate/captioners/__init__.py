"""Captioners, one module each: `NAME_VERSION`, `NEEDS` (columns) and `describe(row) -> sentence`."""
