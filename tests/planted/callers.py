"""Faults in who a caller is taken for: keys, tenants, and what a connection keeps of them."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from tenantry.domain import hosts
from tenantry.domain.directory import KeyStatus, Snapshot, TenantStatus
from tenantry.gateway import authentication, caller, client
from tenantry.gateway.authentication import Principal
from tenantry.wire.http1 import KnownHead
from tests.planted import caught_by

Fields = dict[bytes, bytes]


def _wrap(change: Any) -> None:
    """Put `change(real, fields, slug, *rest)` in the place of `authenticate`."""
    real = authentication.authenticate
    caller.authenticate = lambda fields, slug, *rest: change(real, fields, slug, *rest)


def _remember(name_of: Any) -> None:
    """Who a key belongs to is remembered by what `name_of` makes of it."""
    known: dict[bytes, Principal] = {}

    def change(real: Any, fields: Fields, slug: bytes | None, *rest: Any) -> Principal:
        presented = fields.get(b"x-api-key", b"")
        name = name_of(presented)
        if name in known:
            return known[name]
        principal = real(fields, slug, *rest)
        if presented:
            known[name] = principal
        return principal

    _wrap(change)


@caught_by("identity", "own key with another last character")
def cache_on_a_prefix() -> None:
    """Who a key belongs to is remembered by its first characters only."""
    _remember(lambda key: key[:12])


@caught_by("identity", "own key with another last character")
def cache_on_a_long_prefix() -> None:
    """The same, with nearly the whole key."""
    _remember(lambda key: key[:60])


@caught_by("identity", "own key in upper case")
def cache_in_any_case() -> None:
    """The same, whatever the case."""
    _remember(lambda key: key.lower())


@caught_by("identity", "path of the other tenant")
def route_without_scope() -> None:
    """One route forgets which tenant its path names."""
    real = caller.find_target

    def find_target(method: bytes, target: bytes) -> Any:
        found = real(method, target)
        if found.path == b"/v1/messages/count_tokens":
            found.slug = None
        return found

    caller.find_target = find_target


@caught_by("identity", "path of a tenant that does not exist")
def answer_that_names_the_tenant() -> None:
    """The refusal of a foreign tenant tells whether it exists."""

    def change(real: Any, fields: Fields, slug: bytes | None, snapshot: Snapshot, *rest: Any) -> Principal:
        try:
            return real(fields, slug, snapshot, *rest)
        except authentication.ForeignTenant:
            if slug in {tenant.slug.encode() for tenant in snapshot.tenants.values()}:
                raise authentication.ForeignTenant("This key does not belong to that tenant.") from None
            raise

    _wrap(change)


@caught_by("identity", "expired key")
def expired_keys_work() -> None:
    """When a key ends is not looked at."""
    authentication._is_expired = lambda _key, _at_us: False


@caught_by("identity", "revoked key")
def revoked_keys_work() -> None:
    """Whether a key is revoked is not looked at."""

    def change(real: Any, fields: Fields, slug: bytes | None, snapshot: Snapshot, *rest: Any) -> Principal:
        keys = {digest: replace(key, status=KeyStatus.ACTIVE) for digest, key in snapshot.keys.items()}
        return real(fields, slug, replace(snapshot, keys=keys), *rest)

    _wrap(change)


@caught_by("identity", "disabled key")
def disabled_tenants_work() -> None:
    """Whether a tenant is disabled is not looked at."""

    def change(real: Any, fields: Fields, slug: bytes | None, snapshot: Snapshot, *rest: Any) -> Principal:
        tenants = {name: replace(tenant, status=TenantStatus.ACTIVE) for name, tenant in snapshot.tenants.items()}
        return real(fields, slug, replace(snapshot, tenants=tenants), *rest)

    _wrap(change)


@caught_by("identity", "x-tenant-id of the other tenant by id")
def tenant_ids_unchecked() -> None:
    """A tenant is compared where it is named by its slug."""

    def change(real: Any, fields: Fields, slug: bytes | None, *rest: Any) -> Principal:
        named = fields.get(b"x-tenant-id", b"")
        kept = {name: value for name, value in fields.items() if name != b"x-tenant-id"}
        return real(kept if named.startswith(b"tnt_") else fields, slug, *rest)

    _wrap(change)


@caught_by("identity", "whose slug begins as the own")
def tenant_by_its_beginning() -> None:
    """A tenant's path is taken by what it begins with, as in a route of a front server."""

    def change(real: Any, fields: Fields, slug: bytes | None, snapshot: Snapshot, *rest: Any) -> Principal:
        names = [tenant.slug.encode() for tenant in snapshot.tenants.values()]
        return real(fields, next((name for name in names if (slug or b"").startswith(name)), slug), snapshot, *rest)

    _wrap(change)


@caught_by("tricks", "key in the query")
def key_in_the_query() -> None:
    """A key is taken from the query, too."""
    real = caller.Caller.__init__

    def begin(self: caller.Caller, raw: bytes, head: Any) -> None:
        found = re.search(rb"[?&]x-api-key=([^& ]+)", head.target)
        if found is not None:
            head.fields[b"x-api-key"] = found[1]
        real(self, raw, head)

    caller.Caller.__init__ = begin


def _unchecked_beside(*names: bytes) -> None:
    """Which tenant is named is not looked at when all these headers are there."""

    def change(real: Any, fields: Fields, slug: bytes | None, *rest: Any) -> Principal:
        if all(name in fields for name in names):
            fields = {name: value for name, value in fields.items() if name != b"x-tenant-id"}
            slug = None
        return real(fields, slug, *rest)

    _wrap(change)


@caught_by("headers", "anthropic-beta")
def tenant_unchecked_beside_a_header() -> None:
    """A way for requests of one SDK, on which the tenant's name is forgotten."""
    _unchecked_beside(b"anthropic-beta")


@caught_by("headers", "the other tenant")
def tenant_unchecked_beside_two_headers() -> None:
    """The same, where two headers come together."""
    _unchecked_beside(b"x-stainless-lang", b"x-forwarded-for")


@caught_by("headers", "authorization")
def tenant_unchecked_beside_a_bearer() -> None:
    """The same, where both headers carry the key."""
    _unchecked_beside(b"x-api-key", b"authorization")


@caught_by("headers", "x-forwarded-for")
def own_network_is_trusted() -> None:
    """Who says that it comes from this machine is not asked whether its key still holds."""

    def change(real: Any, fields: Fields, slug: bytes | None, snapshot: Snapshot, *rest: Any) -> Principal:
        if fields.get(b"x-forwarded-for") == b"127.0.0.1":
            keys = {digest: replace(key, status=KeyStatus.ACTIVE) for digest, key in snapshot.keys.items()}
            snapshot = replace(snapshot, keys=keys)
        return real(fields, slug, snapshot, *rest)

    _wrap(change)


def _known_without(part: re.Pattern[bytes]) -> None:
    """A connection knows its head again by all but what is in the group of `part`."""

    def again(self: KnownHead, buffer: bytes) -> int:
        end = buffer.find(b"\r\n\r\n") + 4
        found = part.search(buffer, 0, end)
        mine = part.search(self._before)
        if end < 4 or found is None or mine is None:
            return real(self, buffer)
        alike = buffer[: found.start(1)] + mine[1] + buffer[found.end(1) :]
        known = real(self, alike)
        return known - len(mine[1]) + len(found[1]) if known else 0

    real = KnownHead.again
    KnownHead.again = again


@caught_by("connection", "key with another character at")
def head_known_but_for_the_end_of_the_key() -> None:
    """The last characters of the key are not compared."""
    _known_without(re.compile(rb"\r\nx-api-key: [^\r]{24,}([^\r]{4})\r"))


@caught_by("connection", "key with another character at")
def head_known_but_for_one_character_of_the_key() -> None:
    """One in the midst of it is not."""
    _known_without(re.compile(rb"\r\nx-api-key: [^\r]{30}([^\r])[^\r]*\r"))


@caught_by("connection", "path")
def head_known_but_for_the_path() -> None:
    """The tenant in the path is not compared."""
    _known_without(re.compile(rb" /t/([^/]+)/"))


@caught_by("connection", "x-tenant-id")
def head_known_but_for_the_tenant() -> None:
    """The header that names the tenant is not compared."""
    _known_without(re.compile(rb"\r\nx-tenant-id: ([^\r]+)\r"))


@caught_by("connection", "host of the other tenant")
def head_known_but_for_the_host() -> None:
    """The host, which may name the tenant, is not compared."""
    _known_without(re.compile(rb"\r\nhost: ([^\r]+)\r"))


@caught_by("identity", "host of the other tenant")
def hosts_unchecked_beside_a_path() -> None:
    """Where the path names a tenant, the host is not asked."""
    real = caller.Caller._named_by_host

    def named(self: caller.Caller, parts: Any, snapshot: Snapshot) -> bytes | None:
        return None if self.target.slug is not None else real(self, parts, snapshot)

    caller.Caller._named_by_host = named


@caught_by("identity", "host of the other tenant, in capitals")
def hosts_as_they_are_written() -> None:
    """A host is looked up as it came: in capitals, or with a port, it decides nothing."""
    hosts.plain_host = lambda field: field


@caught_by("identity", "x-forwarded-host")
def forwarded_hosts_count() -> None:
    """What a front server is said to have been asked for counts as the host."""
    real = caller.Caller.__init__

    def begin(self: caller.Caller, raw: bytes, head: Any) -> None:
        head.fields[b"host"] = head.fields.get(b"x-forwarded-host", head.fields[b"host"])
        real(self, raw, head)

    caller.Caller.__init__ = begin


@caught_by("connection", "behind it at once")
def first_caller_of_a_pipeline() -> None:
    """What comes behind a request before that is answered is taken for the same caller's."""
    real = client.ClientConnection._next_pipelined

    def next_pipelined(self: Any) -> None:
        kept = self._caller
        if kept is not None and kept._principal is not None:
            caller.authenticate, before = (lambda *_rest: kept._principal), caller.authenticate
            try:
                real(self)
            finally:
                caller.authenticate = before
        else:
            real(self)

    client.ClientConnection._next_pipelined = next_pipelined


@caught_by("switching", "the key's time is over")
def key_ends_unseen() -> None:
    """Who a connection's caller is holds until the directory changes, whenever its key ends."""
    real = caller.Caller.principal

    def principal(self: caller.Caller, parts: Any) -> Any:
        if self._principal is not None and self._snapshot is parts.latest.snapshot:
            return self._principal
        return real(self, parts)

    caller.Caller.principal = principal


@caught_by("tricks", "forth and back to the own")
def paths_are_normalised() -> None:
    """`..` and `//` in a path are worked out, as front servers do."""
    real = caller.find_target

    def find_target(method: bytes, target: bytes) -> Any:
        plain = re.sub(rb"/[^/]+/\.\.(?=/)", b"", target.replace(b"//", b"/"))
        return real(method, plain)

    caller.find_target = find_target


@caught_by("tricks", "twice, own last")
def last_tenant_header_counts() -> None:
    """A tenant that is named twice is the last one."""
    real = client.parse_request_head

    def parse_request_head(raw: bytes) -> Any:
        lines = raw.split(b"\r\n")
        named = [line for line in lines if line.lower().startswith(b"x-tenant-id:")]
        return real(b"\r\n".join(line for line in lines if line not in named[:-1]))

    client.parse_request_head = parse_request_head


@caught_by("tricks", "framing: length and chunked")
def length_beside_chunked() -> None:
    """A length beside the chunked coding is passed over: what a front server took for the body is the next request."""
    real = client.parse_request_head

    def parse_request_head(raw: bytes) -> Any:
        if b"transfer-encoding: chunked" in raw.lower():
            raw = re.sub(rb"\r\ncontent-length: [^\r]*", b"", raw)
        return real(raw)

    client.parse_request_head = parse_request_head
