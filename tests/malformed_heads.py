"""Request heads that break RFC 9110/9112, or the stricter rules of the gateway: each must be refused, none forwarded.

`K` is the gateway key: a head is refused for its form even when it is authorised.
"""

GOOD = b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: K\r\ncontent-length: 2\r\n\r\n{}"


def _with(*lines: bytes, start: bytes = b"POST /v1/messages HTTP/1.1", host: bytes = b"host: a") -> bytes:
    fields = [line for line in (host, b"x-api-key: K", *lines) if line]
    return b"\r\n".join([start, *fields]) + b"\r\n\r\n{}"


_LENGTH = b"content-length: 2"

MALFORMED: dict[str, bytes] = {
    # request line (RFC 9112 section 3)
    "no version": _with(_LENGTH, start=b"POST /v1/messages"),
    "http 0.9": b"GET /healthz\r\n\r\n",
    "http 2.0": _with(_LENGTH, start=b"POST /v1/messages HTTP/2.0"),
    "http 1.2": _with(_LENGTH, start=b"POST /v1/messages HTTP/1.2"),
    "lower-case http": _with(_LENGTH, start=b"POST /v1/messages http/1.1"),
    "two spaces": _with(_LENGTH, start=b"POST  /v1/messages HTTP/1.1"),
    "tab for space": _with(_LENGTH, start=b"POST\t/v1/messages HTTP/1.1"),
    "trailing space": _with(_LENGTH, start=b"POST /v1/messages HTTP/1.1 "),
    "leading space": _with(_LENGTH, start=b" POST /v1/messages HTTP/1.1"),
    "space in target": _with(_LENGTH, start=b"POST /v1/mess ages HTTP/1.1"),
    "absolute form": _with(_LENGTH, start=b"POST http://a/v1/messages HTTP/1.1"),
    "authority form": _with(start=b"CONNECT a:443 HTTP/1.1"),
    "asterisk form": _with(start=b"OPTIONS * HTTP/1.1"),
    "empty target": _with(_LENGTH, start=b"POST HTTP/1.1"),
    "relative target": _with(_LENGTH, start=b"POST v1/messages HTTP/1.1"),
    "control in target": _with(_LENGTH, start=b"POST /v1/mess\x01ages HTTP/1.1"),
    "nul in target": _with(_LENGTH, start=b"POST /v1/mess\x00ages HTTP/1.1"),
    "high byte in target": _with(_LENGTH, start=b"POST /v1/mess\xe9ages HTTP/1.1"),
    "unknown method": _with(_LENGTH, start=b"BREW /v1/messages HTTP/1.1"),
    "lower-case method": _with(_LENGTH, start=b"post /v1/messages HTTP/1.1"),
    "trace": _with(start=b"TRACE /v1/messages HTTP/1.1"),
    "method with control": _with(_LENGTH, start=b"PO\x01ST /v1/messages HTTP/1.1"),
    "long target": _with(_LENGTH, start=b"POST /" + b"a" * 9000 + b" HTTP/1.1"),
    # Host (RFC 9112 3.2)
    "no host": _with(_LENGTH, host=b""),
    "two hosts": _with(b"host: b", _LENGTH),
    "two equal hosts": _with(b"host: a", _LENGTH),
    "empty host": _with(_LENGTH, host=b"host:"),
    "host with space": _with(_LENGTH, host=b"host: a b"),
    "host with path": _with(_LENGTH, host=b"host: a/b"),
    "host with user": _with(_LENGTH, host=b"host: u@a"),
    "host with two ports": _with(_LENGTH, host=b"host: a:1:2"),
    "host with bad port": _with(_LENGTH, host=b"host: a:x"),
    "host with comma list": _with(_LENGTH, host=b"host: a, b"),
    # framing (RFC 9112 section 6)
    "length and chunked": _with(_LENGTH, b"transfer-encoding: chunked"),
    "chunked and length": _with(b"transfer-encoding: chunked", _LENGTH),
    "two lengths": _with(_LENGTH, b"content-length: 3"),
    "two equal lengths": _with(_LENGTH, _LENGTH),
    "length list": _with(b"content-length: 2, 2"),
    "negative length": _with(b"content-length: -2"),
    "plus length": _with(b"content-length: +2"),
    "hex length": _with(b"content-length: 0x2"),
    "float length": _with(b"content-length: 2.0"),
    "empty length": _with(b"content-length:"),
    "word length": _with(b"content-length: two"),
    "huge length": _with(b"content-length: 99999999999999999999"),
    "length with space inside": _with(b"content-length: 1 2"),
    "gzip coding": _with(b"transfer-encoding: gzip"),
    "gzip, chunked": _with(b"transfer-encoding: gzip, chunked"),
    "chunked, gzip": _with(b"transfer-encoding: chunked, gzip"),
    "chunked twice": _with(b"transfer-encoding: chunked, chunked"),
    "chunked in two fields": _with(b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
    "identity coding": _with(b"transfer-encoding: identity"),
    "quoted chunked": _with(b'transfer-encoding: "chunked"'),
    "chunked with parameter": _with(b"transfer-encoding: chunked;q=1"),
    "vertical tab before chunked": _with(b"transfer-encoding: \x0bchunked"),
    "chunked on 1.0": _with(b"transfer-encoding: chunked", start=b"POST /v1/messages HTTP/1.0"),
    # fields (RFC 9110 section 5)
    "space before colon": _with(_LENGTH, b"x-a : b"),
    "tab before colon": _with(_LENGTH, b"x-a\t: b"),
    "space before colon of length": _with(b"content-length : 2"),
    "no colon": _with(_LENGTH, b"x-a"),
    "empty name": _with(_LENGTH, b": b"),
    "name with space": _with(_LENGTH, b"x a: b"),
    "name with brackets": _with(_LENGTH, b"x(a): b"),
    "name with slash": _with(_LENGTH, b"x/a: b"),
    "name with high byte": _with(_LENGTH, b"x\xe9: b"),
    "name with nul": _with(_LENGTH, b"x\x00a: b"),
    "obs-fold": _with(_LENGTH, b"x-a: b", b" c: d"),
    "obs-fold by tab": _with(_LENGTH, b"x-a: b", b"\tc"),
    "fold on the first line": _with(b" folded", _LENGTH),
    "nul in value": _with(_LENGTH, b"x-a: b\x00c"),
    "bare cr in value": _with(_LENGTH, b"x-a: b\rx-b: c"),
    "bare lf in value": _with(_LENGTH, b"x-a: b\nx-b: c"),
    "bell in value": _with(_LENGTH, b"x-a: \x07"),
    "delete in value": _with(_LENGTH, b"x-a: \x7f"),
    "escape in value": _with(_LENGTH, b"x-a: \x1b[0m"),
    "bare lf line ends": GOOD.replace(b"\r\n", b"\n"),
    "bare lf before blank line": b"POST /v1/messages HTTP/1.1\r\nhost: a\r\nx-api-key: K\n\r\n{}",
    "two keys": _with(_LENGTH, b"x-api-key: K"),
    "two authorizations": _with(_LENGTH, b"authorization: Bearer K", b"authorization: Bearer K"),
    "two tenant ids": _with(_LENGTH, b"x-tenant-id: a", b"x-tenant-id: b"),
    "upgrade to h2c": _with(_LENGTH, b"connection: upgrade", b"upgrade: h2c"),
    "http 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "binary": bytes(range(1, 256)) + b"\r\n\r\n",
    "only nuls": b"\0" * 64 + b"\r\n\r\n",
}

TOO_MANY_FIELDS = _with(_LENGTH, *(b"x-%d: y" % number for number in range(250)))
TOO_LONG_HEAD = _with(_LENGTH, b"x-a: " + b"y" * 70_000)
