"""The hub's token out of a Prefect Secret block, where the plan names one; else that of the environment."""

from __future__ import annotations

from typing import cast

from prefect.blocks.system import Secret

from crossfade.errors import UserError
from crossfade.hub.access import Access
from crossfade.plan.model import Plan


def hub_access(plan: Plan) -> Access:
    """Which hub, as whom. Raises UserError when the plan names a block that does not exist or holds no text.

    The token is loaded where it is used and handed to nobody: it is no parameter of a run and in no artifact.
    """
    name = plan.hub_token
    if not name:
        return Access.from_environment()
    try:
        token = cast(Secret[str], Secret.load(name)).get()
    except ValueError:
        raise UserError(
            f"there is no Prefect block secret/{name}, which hub_token: of the plan names. "
            f"Make it: prefect block create secret, with the name {name} and the token as its value."
        ) from None
    if not isinstance(token, str) or not token.strip():
        raise UserError(f"the Prefect block secret/{name} holds no text. Put the hub's token into it, as it is, without quotes.")
    return Access.from_environment(token.strip())
