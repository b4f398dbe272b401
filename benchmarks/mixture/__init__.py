"""Real evidence for mixing rules: a small net trained on real photographs under every strategy, seed by seed."""
