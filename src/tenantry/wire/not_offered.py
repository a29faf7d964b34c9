"""What the answer 404 says of a path that people have a reason to ask for.

It says the same to everybody: it goes by the path alone, behind any tenant's prefix (DESIGN 4.3).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

_CHAT: Final = "this is the Claude API, not OpenAI's: POST /v1/messages"
_AGENTS: Final = "managed agents are not offered here"
_ADMIN: Final = "administration of the organization is not offered here: ask your agency"

# By how the path goes on behind `/v1/` (reference 1.1, appendix A; OpenAI's as its SDKs ask for them).
NOT_OFFERED: Final[dict[bytes, str]] = {
    b"messages/batches": "message batches are not offered here yet: send their requests to POST /v1/messages",
    b"files": "files are not offered here yet: send documents and images within the message (base64, or a url)",
    b"skills": "skills are not offered here yet",
    b"user_profiles": "user profiles are not offered here: the gateway sets the tenant's own",
    b"complete": "text completions have ended: POST /v1/messages",
    b"chat/completions": _CHAT,
    b"completions": _CHAT,
    b"responses": _CHAT,
    b"embeddings": "the Claude API has no embeddings",
    **dict.fromkeys((b"organizations", b"oauth"), _ADMIN),
    **dict.fromkeys(
        (
            *(b"agents", b"environments", b"sessions", b"deployments", b"deployment_runs"),
            *(b"vaults", b"memory_stores", b"dreams", b"tunnels"),
        ),
        _AGENTS,
    ),
}


def why_not_found(method: bytes, path: bytes, methods: Collection[bytes]) -> str | None:
    """In words, why there is no such route; None where nothing is known. `methods` are those that the path has."""
    if methods:
        return f"Not found: this path takes {' or '.join(sorted(one.decode() for one in methods))}, not {_word(method)}"
    if path.startswith(b"/v1/"):
        return _words(path[4:])
    below = path[1:]
    if below in (b"messages", b"messages/count_tokens", b"models") or below.startswith(b"models/"):
        return f"Not found: /v1 is missing before /{below.split(b'/')[0].decode()}; check the base URL"
    return _words(below) if below.startswith((b"chat/", b"messages/batches")) else None


def _words(below: bytes) -> str | None:
    for begin, words in NOT_OFFERED.items():
        if below == begin or below.startswith(begin + b"/"):
            return f"Not found: {words}"
    return None


def _word(method: bytes) -> str:
    return method.decode("ascii", "replace")
