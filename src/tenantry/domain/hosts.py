"""Host names that name a tenant: one below the site's public domain, or one of the client's own.

A name is kept in one form only: lower case, ASCII (`xn--` where it is not, RFC 5890), no port, no trailing dot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from tenantry.domain.keys import is_slug

# RFC 1035 2.3.4 allows 255 octets with the lengths of the labels and the root's empty one: 253 characters as text.
HOST_CHARS_MAX: Final = 253
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
# Two labels at the least: a single one means another machine in each network. No last label of digits alone, which
# would be read as an address (WHATWG URL, "ends in a number").
_NAME: Final = re.compile(rf"(?:{_LABEL}\.)+(?![0-9]+$){_LABEL}")


class BadHost(ValueError):
    """A text is no host name that can be a tenant's; the message says what it must be."""


def check_host(name: str) -> str:
    """A name in its one form.

    Raises:
        BadHost: it is none, or written in another form.
    """
    if len(name) > HOST_CHARS_MAX:
        raise BadHost(f"must be a host name of at most {HOST_CHARS_MAX} characters")
    if _NAME.fullmatch(name) is None:
        raise BadHost(
            "must be a host name such as ai.client.example: labels of letters, digits and inner hyphens, 63 characters "
            "each at most; no port, no path, no wildcard, no address"
        )
    return name


def plain_host(field: bytes) -> bytes:
    """The name in a `Host` field that has passed: without its port and its trailing dot, in lower case."""
    name = field.lower()
    if name[:1] != b"[":  # an IPv6 address is nobody's name
        name = name.partition(b":")[0]
    return name[:-1] if name[-1:] == b"." else name


class HostRule:
    """What the settings say of hosts: those below `domain` name a tenant, but `own`, the site's public name itself.

    Both are "" where there is none.
    """

    __slots__ = ("_below", "_own", "_site", "is_set")

    def __init__(self, domain: str, own: str) -> None:
        self.is_set = bool(domain)
        self._site = own
        self._below = b"." + domain.encode()
        self._own = own.encode()

    def host_of(self, slug: str) -> str:
        """The name below the domain at which a tenant is served; "" where there is none."""
        host = slug + self._below.decode()
        return host if self.is_set and host != self._site else ""

    def slug_of(self, field: bytes, hosts: Mapping[bytes, bytes]) -> bytes | None:
        """The slug that a `Host` field names, of a tenant that may not exist; None: it decides nothing.

        `hosts` are the clients' own names, with the slugs of their tenants.
        """
        name = plain_host(field)
        if self.is_set and name.endswith(self._below) and name != self._own:
            label = name[: -len(self._below)]
            return label if is_slug(label.decode("latin-1")) else None
        return hosts.get(name)
