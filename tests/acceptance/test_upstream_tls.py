"""An upstream behind TLS with a CA of its own, that cuts its stream anywhere: verified, and relayed byte for byte."""

import random
import socket
import ssl
import subprocess
import threading
from pathlib import Path

from tests.stack import PATIENCE_SECONDS, Stack, wait_for

PLAIN_EVENT = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"%b"}}\n\n'
START = (
    b"event: message_start\n"
    b'data: {"type":"message_start","message":{"model":"claude-sonnet-5-5","usage":{"input_tokens":7}}}\n\n'
)
END = (
    b"event: message_delta\n"
    b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)
RESPONSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
)


def random_stream(seed: int) -> bytes:
    source = random.Random(seed)
    events = [
        PLAIN_EVENT % bytes(source.choice(b"abc xyz{}[]:;") for _ in range(source.randint(0, 3000))) for _ in range(40)
    ]
    return START + b": a comment\n\n".join(events) + END


def serve(listener: socket.socket, context: ssl.SSLContext, seeds: list[int]) -> None:
    for seed in seeds:
        raw, _ = listener.accept()
        with context.wrap_socket(raw, server_side=True) as client:
            request = b""
            while not request.endswith(b"}"):
                request += client.recv(65536)
            client.sendall(RESPONSE_HEAD)
            data, source = random_stream(seed), random.Random(seed)
            while data:
                size = source.randint(1, 900)
                part, data = data[:size], data[size:]
                coded = b"%x\r\n%b\r\n" % (len(part), part)
                cut = source.randint(0, len(coded))
                client.sendall(coded[:cut])
                client.sendall(coded[cut:])
            client.sendall(b"0\r\n\r\n")
            client.recv(1)


def test_random_streams_over_verified_tls_arrive_byte_for_byte(tmp_path: Path) -> None:
    cert, private = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", private, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, private)
    seeds = list(range(12))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        base = f"https://localhost:{listener.getsockname()[1]}"
        stack = Stack(tmp_path)
        try:
            directory = stack.site.directory
            directory.set_upstream("tls", base, str(cert))
            directory.create_tenant("acme", "acme", "standard")
            directory.add_credential("tls", "sandbox-canary-tls", "tls")
            directory.bind_credential("acme", "tls")
            key = directory.issue_key("acme", "").text
            stack.start("gateway", "control")
            server = threading.Thread(target=serve, args=(listener, context, seeds))
            server.start()
            for seed in seeds:
                status, _, body = stack.message(key, stream=True)
                assert status == 200
                assert body == random_stream(seed), f"seed {seed}"
            # Without the CA the certificate is not trusted, and nothing is sent.
            directory.set_upstream("tls", base, None)
            wait_for(lambda: stack_refuses(stack, key), what="the change of CA")
        finally:
            stack.stop()
            listener.close()
            server.join(PATIENCE_SECONDS)
        rows = stack.rows("acme")
        assert [row["output_tokens"] for row in rows[:12]] == [5] * 12


def stack_refuses(stack: Stack, key: str) -> bool:
    return stack.message(key, stream=True)[0] == 529
