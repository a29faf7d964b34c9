"""A command line that sends a request again. Secrets become shell variables; nothing of them is shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from tenantry.control.isolation.client import Address
from tenantry.wire.http1 import BadHead, parse_request_head

# Names nobody: curl says one of its own.
DEFAULT_HOST = "host: gateway"
# Where the tricks cut a key in two.
CUT_AT = 20
_ALTERED = re.compile(rb"sk[-%][^\s\"',;&\x00]{8,}", re.IGNORECASE)
_VARIABLE = re.compile(r"\x02([^\x03]*)\x03")


def repeat_line(address: Address, data: bytes, secrets: Mapping[str, str]) -> str:
    """`curl` where curl can send it, else the bytes through a plain connection. `secrets` are texts by variable."""
    masked = _mask(data, secrets)
    return _curl(address, masked) or _raw(address, masked)


def _mask(data: bytes, secrets: Mapping[str, str]) -> bytes:
    for name, secret in secrets.items():
        data = data.replace(secret.encode(), _variable(name))
    for name, secret in secrets.items():
        begin, rest = secret[:CUT_AT].encode(), secret[CUT_AT:].encode()
        if rest:  # whatever is shorter is never cut
            data = data.replace(rest, _variable(f"{name}:{CUT_AT}"))
            data = data.replace(begin, _variable(f"{name}:0:{CUT_AT}"))
    return _ALTERED.sub(_variable("ALTERED_KEY"), data)


def _variable(name: str) -> bytes:
    return b"\x02%b\x03" % name.encode()


def _curl(address: Address, masked: bytes) -> str:
    head, mark, body = masked.partition(b"\r\n\r\n")
    plain = _VARIABLE.sub("x", head.decode("latin-1"))
    try:
        parsed = parse_request_head(plain.encode("latin-1") + mark)
        text = head.decode("ascii")
        content = body.decode("ascii")
    except (BadHead, UnicodeDecodeError):
        return ""
    if parsed.chunked or parsed.content_length != len(body):
        return ""
    first, *lines = text.split("\r\n")
    method, target, _ = first.split(" ")
    words = ["curl", "-sS", "-i", "--path-as-is", *(["-I"] if method == "HEAD" else ["-X", method])]
    if address.tls is not None:
        words.append("-k")
    words.append(_quote(address.url + target))
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() not in ("content-length", "connection") and line != DEFAULT_HOST:
            # curl leaves an empty header out unless it ends with a semicolon.
            words += ["-H", _quote(line if value.strip() else f"{name};")]
    if content:
        words += ["--data-binary", _quote(content)]
    return " ".join(words)


def _quote(text: str) -> str:
    quoted = shlex.quote(text)
    return _VARIABLE.sub(lambda found: f"'\"${{{found[1]}}}\"'", quoted)


def _raw(address: Address, masked: bytes) -> str:
    shown: list[str] = []
    arguments: list[str] = []
    for part in re.split(rb"(\x02[^\x03]*\x03)", masked):
        if part.startswith(b"\x02"):
            shown.append("%s")
            arguments.append(f'"${{{part[1:-1].decode()}}}"')
        else:
            shown.append("".join(_printf(byte) for byte in part))
    to = f"{address.host} {address.port}"
    if address.tls is None:
        sink = f"nc {to}"
    else:
        sink = f"openssl s_client -quiet -connect {address.host}:{address.port}"
    return " ".join([f"printf '{''.join(shown)}'", *arguments, "|", sink])


def _printf(byte: int) -> str:
    special = {0x0D: "\\r", 0x0A: "\\n", 0x09: "\\t", 0x25: "%%", 0x5C: "\\\\"}
    if byte in special:
        return special[byte]
    return chr(byte) if 0x20 <= byte < 0x7F and byte != 0x27 else f"\\{byte:03o}"
