"""The plan: what the user asks for, read once, checked whole, then never changed."""

from crossfade.plan.load import PlanSource, load_plan, parse_plan
from crossfade.plan.model import ModelPlan, Plan

__all__ = ["ModelPlan", "Plan", "PlanSource", "load_plan", "parse_plan"]
