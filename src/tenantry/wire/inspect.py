"""The few fields of a request body that the gateway acts on. Everything else passes as the bytes that came.

A repeated key takes its last value, as in the JSON parsers of Python, JavaScript and Go.
"""

from __future__ import annotations

import re

import msgspec

from tenantry.domain.values import value

# RFC 8259 has no limit; no published model id is longer than 40 characters.
MODEL_CHARS_MAX = 256


class BadBody(Exception):
    """The body is not a Messages request; the message names the field, in the API's own style."""


@value
class MessageFields:
    """`max_tokens` is None for a count. `wants_1h`: the body asks for a one-hour cache breakpoint somewhere."""

    model: str
    max_tokens: int | None
    stream: bool
    wants_1h: bool


class _Body(msgspec.Struct):
    model: str | msgspec.UnsetType = msgspec.UNSET
    max_tokens: int | msgspec.UnsetType = msgspec.UNSET
    stream: bool | None = None


_DECODER = msgspec.json.Decoder(_Body)
_TTL_1H = re.compile(rb'"ttl"\s*:\s*"1h"')


def inspect_message(body: bytes, *, count_only: bool = False) -> MessageFields:
    """Read the fields of a Messages request, or of a count_tokens request when `count_only`.

    Raises:
        BadBody: not a JSON object, or a field is missing or has the wrong type.
    """
    try:
        fields = _DECODER.decode(body)
    except msgspec.ValidationError as error:
        raise BadBody(_named(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadBody("The request body is not valid JSON.") from None
    model, max_tokens = fields.model, fields.max_tokens
    if not isinstance(model, str):
        raise BadBody("model: Field required")
    if not model or len(model) > MODEL_CHARS_MAX or not model.isprintable():
        raise BadBody("model: String should be the id of a model")
    if isinstance(max_tokens, int):
        if max_tokens < 0:
            raise BadBody("max_tokens: Input should be greater than or equal to 0")
    elif not count_only:
        raise BadBody("max_tokens: Field required")
    return MessageFields(
        model,
        max_tokens if isinstance(max_tokens, int) else None,
        fields.stream is True,
        # The cheap look first: the longer the word, the larger the steps of the search.
        b"cache_control" in body and b'"1h"' in body and _TTL_1H.search(body) is not None,
    )


def _named(problem: str) -> str:
    """`Expected `int`, got `str` - at `$.max_tokens`` -> `max_tokens: Expected `int`, got `str``."""
    what, _, where = problem.partition(" - at `$")
    field = where.strip("`.")
    return f"{field}: {what}" if field else f"The request body must be a JSON object: {what}"
