"""What huggingface_hub raises, in Crossfade's errors: the class says whether trying again helps, the message what to do.

The library wraps causes in each other (a 503 arrives as "local entry not found"), so the whole chain is looked at. Its own
messages are not quoted: they carry addresses, and an address may carry a password.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator

import httpx2
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import parse_ratelimit_headers  # type: ignore[attr-defined]  # public, but not re-exported by name

from crossfade.errors import CrossfadeError, NotEnoughRoom, PermanentError, TemporaryError, Unreachable, WeightsInvalid
from crossfade.hub.access import Access

_RETRY_S = 10.0


def explain(error: Exception, repo: str, revision: str, access: Access) -> CrossfadeError:
    """The error to raise instead; raises `error` itself when it is none of the hub's (a mistake of ours must stay visible)."""
    if isinstance(error, CrossfadeError):
        return error
    chain = list(_chain(error))
    for link in chain:
        if isinstance(link, OfflineModeIsEnabled):
            return offline(repo, revision)
        if isinstance(link, HfHubHTTPError):
            return _refused(link, repo, revision, access)
        if isinstance(link, OSError) and link.errno in (errno.ENOSPC, errno.EDQUOT):
            return NotEnoughRoom(
                f"The disk filled up while downloading {repo} ({link.strerror}). Make room, or point store: at a larger disk."
            )
        if isinstance(link, OSError) and link.filename and link.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            return PermanentError(
                f"Cannot write {link.filename} while downloading {repo}: {link.strerror}. Make the store: folder writable."
            )
    if isinstance(error, HFValidationError):
        return WeightsInvalid(f"{repo!r} is not a repository name. Write it like organisation/name in huggingface: of the plan.")
    if any(isinstance(link, (httpx2.HTTPError, OSError, EntryNotFoundError)) for link in chain):
        what = type(chain[-1]).__name__
        return Unreachable(
            f"{access.host} did not deliver {repo} ({what}). What has arrived is kept; trying again goes on from there. "
            "If it stays so, check the network, the proxy settings and HF_ENDPOINT.",
            delay_s=_RETRY_S,
        )
    if any(isinstance(link, (ValueError, KeyError)) for link in chain):
        return WeightsInvalid(f"{access.host} did not answer like a HuggingFace hub ({type(error).__name__}). Check HF_ENDPOINT.")
    raise error


def offline(repo: str, revision: str) -> WeightsInvalid:
    """The network may not be used and the weights are not here."""
    return WeightsInvalid(
        f"HF_HUB_OFFLINE is set and {repo}@{revision} is not complete in the store. Unset it for the download, or copy the weights "
        "folder with its weights.json into the store and name its commit as revision: in the plan."
    )


def _refused(error: HfHubHTTPError, repo: str, revision: str, access: Access) -> CrossfadeError:
    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return WeightsInvalid(f"{repo} is gated. {_accept_licence(repo, access)}")
    if isinstance(error, RevisionNotFoundError):
        return WeightsInvalid(f"{repo} has no revision {revision!r} on {access.host}. Check revision: in the plan.")
    if isinstance(error, RepositoryNotFoundError):
        private = "the token given may not see it" if access.token else "it is private and no HF_TOKEN is set"
        return WeightsInvalid(f"{access.host} knows no model repository {repo}, or {private}. Check huggingface: in the plan.")
    if isinstance(error, RemoteEntryNotFoundError):
        return WeightsInvalid(
            f"{access.host} lists a file of {repo} that it does not have. The repository is broken there; try another mirror."
        )
    if status == 429:
        delay_s = _delay_s(error)
        return TemporaryError(
            f"{access.host} limits our requests (429) and asks to wait {delay_s:.0f} s. A token raises the limit.", delay_s=delay_s
        )
    if status >= 500 or status == 408:
        return Unreachable(
            f"{access.host} answered {status} for {repo}. It is trouble on their side; trying again may help.", delay_s=_delay_s(error)
        )
    if status in (401, 403):
        whose = "the token in HF_TOKEN" if access.token else "requests without a token; set HF_TOKEN"
        return WeightsInvalid(f"{access.host} refuses {whose} for {repo} ({status}). Make a token that may read it and try again.")
    return WeightsInvalid(
        f"{access.host} answered {status} for {repo}@{revision}. Check huggingface: and revision: in the plan, and HF_ENDPOINT."
    )


def _accept_licence(repo: str, access: Access) -> str:
    page = access.page(repo)
    if access.token:
        return (
            f"The account of your token has not been let in: accept the licence at {page} (an owner may have to approve), then try again."
        )
    return f"Accept the licence at {page}, then set HF_TOKEN to a token of that account and try again."


def told_delay_s(error: HfHubHTTPError) -> float | None:
    """Seconds the hub asks to wait, by Retry-After or its rate-limit headers; None when it does not say."""
    headers = error.response.headers
    told = headers.get("Retry-After", "").strip()
    if told.isdigit():
        return float(told)
    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit else None


def _delay_s(error: HfHubHTTPError) -> float:
    told = told_delay_s(error)
    return _RETRY_S if told is None else told


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__
