"""Mixtures as numbers: rules that turn per-task scores into weights, schedules, worlds to try them in. No images."""
