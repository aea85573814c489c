"""Prefect tasks: one stage each. Retries, timeouts and artifacts live here, decisions in `crossfade`."""
