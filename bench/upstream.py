"""The bench's upstream: valid Messages answers as cheaply as Python can send them.

`python -m bench.upstream PORT [CERTIFICATE KEY]`, behind TLS where these are given. It tells no rate limits: a gateway
rightly learns them, and would then hold back a load above them. A stream has as many chunks as `max_tokens` says, at
most 100, and each tells when it was sent.
"""

import asyncio
import json
import re
import ssl
import sys
import time

import uvloop

CHUNKS = 100
CHUNK_SECONDS = 0.02
_CHUNKS = re.compile(rb'"max_tokens":(\d+)')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

_USAGE = {
    "input_tokens": 400,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 2048,
    "output_tokens": 200,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
    "service_tier": "standard",
}
_MESSAGE = {
    "model": "claude-sonnet-5-5",
    "id": "msg_bench",
    "type": "message",
    "role": "assistant",
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": _USAGE,
    "content": [{"type": "text", "text": "x" * 560}],
}


def _event(name: str, data: object) -> bytes:
    body = f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(body), body)


_BODY = json.dumps(_MESSAGE).encode()
WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nrequest-id: req_bench\r\ncontent-length: %d\r\n\r\n"
    % len(_BODY)
) + _BODY
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_b\r\ntransfer-encoding: chunked\r\n\r\n"
START = _event("message_start", {"type": "message_start", "message": _MESSAGE | {"content": [], "stop_reason": None}})
_DELTA = _event(
    "content_block_delta",
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "t=00000000000000000000; "}},
)
_BEFORE, _, _AFTER = _DELTA.partition(b"0" * 20)


def delta(sent_ns: int) -> bytes:
    """A chunk that says when it was sent, by the machine's monotonic clock."""
    return b"%b%020d%b" % (_BEFORE, sent_ns, _AFTER)


END = (
    _event("message_delta", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": _USAGE})
    + _event("message_stop", {"type": "message_stop"})
    + b"0\r\n\r\n"
)


class Upstream(asyncio.Protocol):
    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        found = _LENGTH.search(self._buffer, 0, end)
        length = int(found.group(1)) if found else 0
        if len(self._buffer) < end + 4 + length:
            return
        whole, self._buffer = self._buffer, b""
        streaming = b'"stream":true' in whole[-64:]
        if streaming:
            found = _CHUNKS.search(whole, end)
            self._transport.write(HEAD + START)
            self._next(min(CHUNKS, int(found.group(1))) if found else CHUNKS)
        else:
            self._transport.write(WHOLE)

    def _next(self, left: int) -> None:
        if self._transport.is_closing():
            return
        if not left:
            self._transport.write(END)
            return
        self._transport.write(delta(time.monotonic_ns()))
        asyncio.get_running_loop().call_later(CHUNK_SECONDS, self._next, left - 1)


async def main() -> None:
    context = None
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Upstream, "127.0.0.1", int(sys.argv[1]), ssl=context, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
