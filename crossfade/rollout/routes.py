"""How requests are shared: the route table in the words of the domain, before any router sees it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FULL_BP = 10_000
"""Shares of source and target always sum to this; a constant total keeps sticky conversations in place (facts on Envoy)."""

TARGET_NAME: Final = r"([a-z0-9][a-z0-9\-]{0,39})?"
"""What a target may be called; the empty name is the stack's own target."""


class Upstream(StrEnum):
    """Where the target's share of a route goes."""

    TARGET = "target"
    REHEARSAL_BREACH = "rehearsal_breach"  # a port nobody listens on: a real failing target, for the rehearsal's hidden model only


class Latch(BaseModel):
    """The mark a trip leaves in the route folder until a person clears it."""

    model_config = ConfigDict(frozen=True)

    why: str
    at_s: float
    by: str


class ModelRoute(BaseModel):
    """Share of one model. `name` is the route's bounded metric label; `models` are the names clients send.

    `shadow_bp` of all the route's requests are also sent to its target, whose answers to them nobody sees. `target` names one of
    the stack's further targets; empty is the stack's own.
    """

    model_config = ConfigDict(frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.\-]{0,80}$")
    models: tuple[str, ...] = Field(min_length=1)
    share_bp: int = Field(0, ge=0, le=FULL_BP)
    shadow_bp: int = Field(0, ge=0, le=FULL_BP)
    upstream: Upstream = Upstream.TARGET
    target: str = Field("", pattern=f"^{TARGET_NAME}$")

    @property
    def source_bp(self) -> int:
        """What is left to the source."""
        return FULL_BP - self.share_bp

    def with_at_most(self, share_bp: int, shadow_bp: int) -> Self:
        """The same route with no more than these on the target."""
        return self.model_copy(update={"share_bp": min(self.share_bp, share_bp), "shadow_bp": min(self.shadow_bp, shadow_bp)})


class RouteTable(BaseModel):
    """Everything the router does by model; a model without a route goes to the source."""

    model_config = ConfigDict(frozen=True)

    generation: int = Field(0, ge=0)
    routes: tuple[ModelRoute, ...] = ()

    @model_validator(mode="after")
    def _no_two_routes_match_one_name(self) -> Self:
        owner: dict[str, str] = {}
        for route in self.routes:
            for model in {canonical(name) for name in route.models}:
                if owner.setdefault(model, route.name) != route.name:
                    raise ValueError(f"the model name {model!r} is in two routes, {owner[model]!r} and {route.name!r}")
        if len({route.name for route in self.routes}) != len(self.routes):
            raise ValueError("two routes have the same name")
        return self

    def route(self, name: str) -> ModelRoute:
        """The route called `name`; raises KeyError when there is none."""
        for route in self.routes:
            if route.name == name:
                return route
        raise KeyError(name)

    def with_route(self, changed: ModelRoute) -> Self:
        """The next generation with `changed` added or put in the place of its namesake."""
        kept = tuple(route for route in self.routes if route.name != changed.name)
        return type(self)(generation=self.generation + 1, routes=(*kept, changed))

    def without_route(self, name: str) -> Self:
        """The next generation without the route called `name`."""
        return type(self)(generation=self.generation + 1, routes=tuple(route for route in self.routes if route.name != name))


def canonical(model: str) -> str:
    """A model name as Ollama understands it: case does not matter, `:latest` is implied."""
    return model.lower().removesuffix(":latest")
