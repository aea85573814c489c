"""Simulated ramps for judges: what happens, what a rule sees of it, and how its decisions turn out."""
