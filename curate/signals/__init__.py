"""Built-in signals: what can be measured of one photograph without any model, from one decode."""

from curate.signals.measure import measure

__all__ = ["measure"]
