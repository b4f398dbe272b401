"""Built-in signals: what can be measured of one photograph without any model, from one decode."""
