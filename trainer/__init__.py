"""Shards to models: the stream, the models, the closed loop with the mixer, evaluation and restoration."""
