"""Ways to write a request so that two readers of it might disagree about whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tenantry.domain.keys import new_gateway_key

# Stands for the route's own path in a trick's path.
PATH = b"{path}"

# What a trick has to come to.
MALFORMED = "malformed"  # the head or the framing breaks HTTP: 400
NO_ROUTE = "no route"  # no such path: 404, or 400 where the path itself is malformed
FOREIGN = "foreign"  # names another tenant: 403
NO_KEY = "no key"  # 401
AT_MOST_OWN = "at most own"  # refused, or served as the own tenant

# Looks like the first letter of most slugs: U+0440 for `p`, U+0430 for `a`, U+0435 for `e`, U+043E for `o`.
_LOOK_ALIKES = str.maketrans({"p": "р", "a": "а", "e": "е", "o": "о"})


@dataclass(frozen=True, slots=True)
class Trick:
    """`path` holds `PATH` where the route's own path belongs; b"" leaves it alone.

    `framing` replaces length and body: header lines, and the bytes behind the head. Tricks with the same `twin` differ
    only in whether the tenant they name exists.
    """

    title: str
    outcome: str
    path: bytes = b""
    lines: tuple[bytes, ...] = ()
    framing: tuple[tuple[bytes, ...], bytes] | None = None
    twin: str = ""


def made_up_key(slug: str) -> str:
    """A key of the right form and checksum that was never issued."""
    return new_gateway_key(slug)


def near_misses(key: bytes) -> Iterator[tuple[str, bytes]]:
    """Keys that are almost `key`."""
    last = b"0" if key[-1:] != b"0" else b"1"
    yield "own key with another last character", key[:-1] + last
    yield "own key without its last character", key[:-1]
    yield "own key with one character more", key + b"0"
    yield "own key's first half and another's end", key[: len(key) // 2] + b"0" * (len(key) - len(key) // 2)
    yield "own key up to its random part", key[: key.rindex(b"-") + 1]
    yield "own key in upper case", key.upper()
    yield "own key with a look-alike letter", key.decode().replace("o", "о", 1).encode()
    yield "own key percent-encoded", key.replace(b"-", b"%2d")


def list_tricks(key: str, own: str, other: str, nobody: str) -> Iterator[Trick]:
    """Every trick, with the own key and slug, against a tenant that exists and one that does not."""
    key_line = b"x-api-key: " + key.encode()
    for name in (other, nobody):
        which = "the other tenant" if name == other else "nobody"
        yield from _paths(key_line, own.encode(), name.encode(), which)
        yield from _tenant_headers(key_line, own.encode(), name.encode(), which)
    yield from _key_headers(key.encode(), own.encode(), other.encode())
    yield from _framings(key_line, own.encode(), other.encode())


def _paths(key_line: bytes, own: bytes, name: bytes, which: str) -> Iterator[Trick]:
    first = b"%%%02x" % name[0]
    shapes: dict[str, bytes] = {
        "percent-encoded letter": b"/t/" + first + name[1:] + PATH,
        "percent-encoded slash": b"/t%2f" + name + PATH,
        "double slash before": b"//t/" + name + PATH,
        "double slash within": b"/t//" + name + PATH,
        "double slash behind": b"/t/" + name + b"/" + PATH,
        "dot segment before": b"/./t/" + name + PATH,
        "dot segment within": b"/t/./" + name + PATH,
        "dot segment behind": b"/t/" + name + b"/." + PATH,
        "back from the own tenant": b"/t/" + own + b"/../" + name + PATH,
        "back, percent-encoded": b"/t/" + own + b"/%2e%2e/" + name + PATH,
        "back, both encoded": b"/t/" + own + b"%2f..%2f" + name + PATH,
        "forth and back to the own": b"/t/" + name + b"/../" + own + PATH,
        "two prefixes": b"/t/" + own + b"/t/" + name + PATH,
        "two prefixes, reversed": b"/t/" + name + b"/t/" + own + PATH,
        "upper-case prefix": b"/T/" + name + PATH,
        "upper-case slug": b"/t/" + name.upper() + PATH,
        "trailing slash": b"/t/" + name + PATH + b"/",
        "path parameter": b"/t/" + name + b";x=1" + PATH,
        "backslash": b"/t/" + name + b"\\" + PATH,
        "percent-encoded NUL": b"/t/" + name + b"%00" + PATH,
        "NUL": b"/t/" + name + b"\x00" + PATH,
        "blank": b"/t/" + name + b" " + PATH,
        "percent-encoded blank": b"/t/" + name + b"%20" + PATH,
        "look-alike letters": b"/t/" + name.decode().translate(_LOOK_ALIKES).encode() + PATH,
        "percent-encoded look-alike": b"/t/%D0%BE" + name[1:] + PATH,
        "query instead of path": b"/t/" + name + b"?x=" + PATH,
        "fragment": b"/t/" + name + b"#" + PATH,
        "absolute form": b"http://gateway/t/" + name + PATH,
        "two slugs": b"/t/" + own + b"," + name + PATH,
    }
    for title, path in shapes.items():
        yield Trick(f"path of {which}: {title}", NO_ROUTE, path, (key_line,), twin=f"path {title}")


def _tenant_headers(key_line: bytes, own: bytes, name: bytes, which: str) -> Iterator[Trick]:
    header = b"x-tenant-id: "
    foreign: dict[str, tuple[bytes, ...]] = {
        "upper-case name": (b"X-TENANT-ID: " + name,),
        "upper-case value": (header + name.upper(),),
        "blanks and tabs around": (b"x-tenant-id: \t " + name + b" \t ",),
        "no blank": (b"x-tenant-id:" + name,),
        "quoted": (header + b'"' + name + b'"',),
        "list, own first": (header + own + b", " + name,),
        "list, own last": (header + name + b"," + own,),
        "percent-encoded": (header + b"%%%02x" % name[0] + name[1:],),
        "look-alike letters": (header + name.decode().translate(_LOOK_ALIKES).encode(),),
        "declared hop-by-hop": (header + name, b"connection: close, x-tenant-id"),
    }
    malformed: dict[str, tuple[bytes, ...]] = {
        "twice, own first": (header + own, header + name),
        "twice, own last": (header + name, header + own),
        "twice, in two cases": (header + own, b"X-Tenant-Id: " + name),
        "obs-fold": (header + own, b" " + name),
        "obs-fold into an empty one": (b"x-tenant-id:", b"\t" + name),
        "NUL": (header + own + b"\x00" + name,),
        "bare LF": (header + own + b"\nx-tenant-id: " + name,),
        "bare CR": (header + own + b"\rx-tenant-id: " + name,),
        "blank before the colon": (b"x-tenant-id : " + name,),
    }
    for title, lines in foreign.items():
        yield Trick(f"x-tenant-id of {which}: {title}", FOREIGN, lines=(key_line, *lines))
    for title, lines in malformed.items():
        yield Trick(f"x-tenant-id of {which}: {title}", MALFORMED, lines=(key_line, *lines))
    elsewhere = (
        "x_tenant_id",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-prefix",
        "tenant-id",
        "anthropic-workspace-id",
        "anthropic_workspace_id",
        "anthropic-user-profile-id",
        "anthropic-organization-id",
    )
    for other_name in elsewhere:
        line = other_name.encode() + b": " + (b"/t/" + name if "url" in other_name else name)
        yield Trick(f"{other_name} of {which}", AT_MOST_OWN, lines=(key_line, line))
    yield Trick(f"query naming {which}", AT_MOST_OWN, PATH + b"?x-tenant-id=" + name, (key_line,))


def _key_headers(key: bytes, own: bytes, other: bytes) -> Iterator[Trick]:
    header, bearer = b"x-api-key: ", b"authorization: Bearer "
    made_up = made_up_key(other.decode()).encode()
    malformed: dict[str, tuple[bytes, ...]] = {
        "x-api-key twice, the same": (header + key, header + key),
        "x-api-key twice, own first": (header + key, header + made_up),
        "x-api-key twice, own last": (header + made_up, header + key),
        "authorization twice": (bearer + key, bearer + made_up),
        "x-api-key folded": (b"x-api-key:", b" " + key),
        "NUL behind the key": (header + key + b"\x00",),
        "NUL within the key": (header + key[:20] + b"\x00" + key[20:],),
        "blank before the colon": (b"x-api-key : " + key,),
        "control character in the key": (header + key + b"\x01",),
    }
    for title, lines in malformed.items():
        yield Trick(title, MALFORMED, lines=lines)
    for title, lines in {
        "two keys in one x-api-key": (header + key + b", " + made_up,),
        "blank within the key": (header + key[:20] + b" " + key[20:],),
        "quoted key": (header + b'"' + key + b'"',),
    }.items():
        yield Trick(title, NO_KEY, lines=lines)
    yield Trick("key in the query", NO_KEY, PATH + b"?x-api-key=" + key + b"&api_key=" + key)
    for title, lines in {
        "blanks and tabs around the key": (b"x-api-key: \t" + key + b" \t",),
        "two blanks behind Bearer": (b"authorization: Bearer  " + key,),
        "lower-case bearer": (b"authorization: bearer " + key,),
        "empty x-api-key beside Bearer": (b"x-api-key:", bearer + key),
        "empty Bearer beside x-api-key": (header + key, b"authorization: Bearer"),
        "own x-tenant-id with blanks": (header + key, b"x-tenant-id: \t" + own + b"\t"),
        "empty x-tenant-id": (header + key, b"x-tenant-id:"),
    }.items():
        yield Trick(title, AT_MOST_OWN, lines=lines)


def _framings(key_line: bytes, own: bytes, other: bytes) -> Iterator[Trick]:
    """One message that could be read as two (RFC 9112 11.2). Behind each stands a whole request in the other's name."""
    hidden = b"GET /t/" + other + b"/v1/models HTTP/1.1\r\nhost: gateway\r\n" + key_line + b"\r\n\r\n"
    as_chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(hidden), hidden)
    length, chunked = b"content-length: ", b"transfer-encoding: chunked"
    shapes: dict[str, tuple[tuple[bytes, ...], bytes]] = {
        "length and chunked": ((length + b"5", chunked), b"0\r\n\r\n" + hidden),
        "chunked and length": ((chunked, length + b"%d" % len(as_chunk)), as_chunk),
        "two lengths": ((length + b"0", length + b"%d" % len(hidden)), hidden),
        "two equal lengths": ((length + b"0", length + b"0"), hidden),
        "list of lengths": ((length + b"0, %d" % len(hidden),), hidden),
        "length with a sign": ((length + b"+0",), hidden),
        "negative length": ((length + b"-1",), hidden),
        "hexadecimal length": ((length + b"0x0",), hidden),
        "two codings": ((chunked, b"transfer-encoding: identity"), b"0\r\n\r\n" + hidden),
        "list of codings": ((b"transfer-encoding: identity, chunked",), b"0\r\n\r\n" + hidden),
        "unknown coding": ((b"transfer-encoding: xchunked",), b"0\r\n\r\n" + hidden),
        "blank before the colon": ((b"transfer-encoding : chunked", length + b"0"), b"0\r\n\r\n" + hidden),
        "folded coding": ((b"transfer-encoding:", b" chunked"), b"0\r\n\r\n" + hidden),
        "vertical tab in the coding": ((b"transfer-encoding: \x0bchunked",), b"0\r\n\r\n" + hidden),
        "chunk size that is no number": ((chunked,), b"0x0\r\n\r\n" + hidden),
        "chunk without its end": ((chunked,), b"1\r\nab0\r\n\r\n" + hidden),
        "bare LF behind a chunk size": ((chunked,), b"0\n\n" + hidden),
        "trailer that names a tenant": ((chunked,), b"0\r\nx-tenant-id: " + other + b"\r\n\r\n" + hidden),
        "second host": ((b"host: " + own, length + b"0"), hidden),
        "bare LF in the head": ((b"x: y\n", length + b"0"), hidden),
    }
    for title, framing in shapes.items():
        yield Trick(f"framing: {title}", MALFORMED, lines=(key_line,), framing=framing)
