"""Any route table, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from crossfade.rollout.routes import ModelRoute, RouteTable, Upstream, canonical

MORE_TARGETS = ("b", "vision-7b")

names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.\-]{0,20}", fullmatch=True)
models = st.text(min_size=1, max_size=12)
basis_points = st.one_of(st.sampled_from((0, 1, 9_999, 10_000)), st.integers(0, 10_000))


@st.composite
def tables(draw: st.DrawFn) -> RouteTable:
    routes, taken = [], set[str]()
    for name in draw(st.lists(names, unique=True, max_size=5)):
        own = tuple(model for model in draw(st.lists(models, min_size=1, max_size=3)) if canonical(model) not in taken)
        taken |= {canonical(model) for model in own}
        if own:
            route = ModelRoute(
                name=name,
                models=own,
                share_bp=draw(basis_points),
                shadow_bp=draw(basis_points),
                upstream=draw(st.sampled_from(Upstream)),
                target=draw(st.sampled_from(("", *MORE_TARGETS))),
            )
            routes.append(route)
    return RouteTable(generation=draw(st.integers(0, 10**9)), routes=tuple(routes))
