"""The journal on SQL. `open_journal` is how everybody else gets one."""

from crossfade.store.opening import open_journal

__all__ = ["open_journal"]
