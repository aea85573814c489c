"""Weights from a HuggingFace hub or mirror: resolved to a commit, checked before the first byte, hash-checked after the last."""
