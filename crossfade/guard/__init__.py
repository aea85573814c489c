"""The resident guard: brings a breaking target's traffic back without waiting for anybody.

It needs the route folder and Prometheus. Journal and Prefect are told afterwards, and may be down as long as they like.
"""
