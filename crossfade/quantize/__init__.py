"""Smaller weights out of weights: one tool a backend, each in its own environment."""
