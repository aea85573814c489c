"""The journal on SQL."""
