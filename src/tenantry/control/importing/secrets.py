"""What kind of secret a text is, by its form. The text itself is never kept, printed or copied."""

from __future__ import annotations

import re
from enum import Enum

# The gateway hashes no longer key (gateway/authentication.py).
KEY_CHARS_MAX = 512
# A shorter key can be guessed at the rate that a gateway answers.
KEY_CHARS_SAFE = 20

_PLACEHOLDER = re.compile(
    r".*\.\.\.|.*x{6,}"
    r"|(sk-(ant-|proxy-)?(api\d\d-)?)?"
    r"(<.*>|\$?\{.*\}|x{3,}|(change|replace)[-_ ]?(me|this|it)|todo|tbd|none|null|key|secret"
    r"|your[-_ ](api[-_ ]|proxy[-_ ]|gateway[-_ ]|secret[-_ ]|own[-_ ])*(key|token|secret)([-_ ]here)?)",
    re.IGNORECASE,
)


class Secret(Enum):
    EMPTY = "is empty"
    PLACEHOLDER = "still holds a placeholder instead of a key"
    CONSUMER_LOGIN = (
        "holds a login of a Claude subscription (sk-ant-oat...): Anthropic's terms forbid routing one through a "
        "gateway. Use an API key of the client's workspace"
    )
    ADMIN_KEY = "holds an Admin API key, which does not work on /v1/messages. Use a workspace API key"
    UNSENDABLE = "holds a key that no header can carry: it has spaces or characters other than ASCII, or is too long"
    UPSTREAM = "is an Anthropic key"
    PROXY = "is a key of the old proxy"

    @property
    def is_refused(self) -> bool:
        return self not in (Secret.UPSTREAM, Secret.PROXY)


def classify(text: str) -> Secret:
    """What `text` is."""
    if not text:
        return Secret.EMPTY
    if text.startswith("sk-ant-oat"):
        return Secret.CONSUMER_LOGIN
    if text.startswith("sk-ant-admin"):
        return Secret.ADMIN_KEY
    if _PLACEHOLDER.fullmatch(text):
        return Secret.PLACEHOLDER
    if not text.isascii() or not text.isprintable() or " " in text or len(text) > KEY_CHARS_MAX:
        return Secret.UNSENDABLE
    return Secret.UPSTREAM if text.startswith("sk-ant-") else Secret.PROXY
