"""Moving a model's requests between the engines: gates, ticks, rehearsal, rollback.

Written against the ports alone, so that the same code runs in a Prefect task, in `crossfade tick` and in a test.
"""
