"""Which certificate a client is shown, and what becomes of it when the files change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tenantry.certificate_files import BadCertificate, load_certificate, require_authorities
from tenantry.control.doctor import examine
from tenantry.gateway import certificates
from tenantry.gateway.certificates import Certificates
from tenantry.machine_checks import unusable_here
from tenantry.setting_tables import CertificateFiles
from tenantry.settings import SettingsError, load_settings
from tests.authority import Authority, replace
from tests.stack import until

MAIN, WILD, CLIENT = "claude.agency.example", "*.claude.agency.example", "ai.client.example"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def pairs(authority: Authority) -> list[CertificateFiles]:
    return [
        CertificateFiles("main", *authority.issue("main", MAIN, WILD)),
        CertificateFiles("client", *authority.issue("client", CLIENT)),
    ]


def shown(authority: Authority, held: Certificates, name: str | None) -> set[str]:
    """The names in the certificate that a client is shown which asks for `name`: a handshake in memory."""
    client_in, client_out, server_in, server_out = (ssl.MemoryBIO() for _ in range(4))
    context = authority.client()
    context.check_hostname = False
    client = context.wrap_bio(client_in, client_out, server_hostname=name)
    server = held.context.wrap_bio(server_in, server_out, server_side=True)
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
            server_in.write(client_out.read())
            client_in.write(server_out.read())
    assert client.version() == "TLSv1.3"
    found = client.getpeercert() or {}
    return {str(value) for _, value in found["subjectAltName"]}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (CLIENT, {CLIENT}),
        (CLIENT.upper(), {CLIENT}),
        ("acme.claude.agency.example", {MAIN, WILD}),
        ("a.b.claude.agency.example", {MAIN, WILD}),  # no other is for it
        (f"x.{CLIENT}", {MAIN, WILD}),
        ("another.example", {MAIN, WILD}),
        (None, {MAIN, WILD}),
    ],
)
def test_a_client_is_shown_the_certificate_of_the_name_that_it_asks_for(
    authority: Authority, asked: str | None, names: set[str]
) -> None:
    assert shown(authority, Certificates(pairs(authority)), asked) == names


def test_a_wildcard_is_for_one_label(authority: Authority) -> None:
    held = Certificates([*pairs(authority), CertificateFiles("w", *authority.issue("w", "*.client.example"))])
    assert shown(authority, held, "x.client.example") == {"*.client.example"}
    assert shown(authority, held, CLIENT) == {CLIENT}
    assert shown(authority, held, "x.y.client.example") == {MAIN, WILD}


class Asked(asyncio.Event):
    """What a follower waits for, which counts how often it has come back to wait."""

    waits = 0

    async def wait(self) -> Literal[True]:
        self.waits += 1
        return await super().wait()


def following(held: Certificates, steps: Callable[[Callable[[], Awaitable[None]]], Awaitable[None]]) -> None:
    """Run `steps`, which is handed a way to have the files looked at."""

    async def run() -> None:
        held._asked = asked = Asked()
        task = asyncio.create_task(held.follow())
        await until(lambda: asked.waits == 1)

        async def look() -> None:
            before = asked.waits
            held.ask()
            await until(lambda: asked.waits > before, what="the end of a look")

        try:
            await steps(look)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


def test_files_that_change_are_read_again(authority: Authority) -> None:
    held = Certificates(pairs(authority))

    async def steps(look: Callable[[], Awaitable[None]]) -> None:
        authority.issue("client", CLIENT, "new.client.example")
        assert shown(authority, held, CLIENT) == {CLIENT}
        await look()
        assert shown(authority, held, CLIENT) == {CLIENT, "new.client.example"}
        assert shown(authority, held, "new.client.example") == {CLIENT, "new.client.example"}
        authority.issue("client", "other.client.example")
        await look()
        assert shown(authority, held, CLIENT) == {MAIN, WILD}

    following(held, steps)


def test_without_being_asked_they_are_looked_at_by_the_clock(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "LOOK_SECONDS", 0.01)
    held = Certificates(pairs(authority))

    async def steps(_look: Callable[[], Awaitable[None]]) -> None:
        authority.issue("client", CLIENT, "new.client.example")
        await until(lambda: shown(authority, held, "new.client.example") == {CLIENT, "new.client.example"})

    following(held, steps)


def test_broken_files_leave_the_old_ones_in_use_and_are_told_once(
    authority: Authority, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    held = Certificates(pairs(authority))

    async def steps(look: Callable[[], Awaitable[None]]) -> None:
        for data in (b"no certificate", b""):
            replace(tmp_path / "client.pem", data)
            for _ in range(4):
                await look()
            assert shown(authority, held, CLIENT) == {CLIENT}
        (tmp_path / "client.key").unlink()
        for _ in range(4):
            await look()
        assert shown(authority, held, CLIENT) == {CLIENT}
        authority.issue("client", CLIENT, "mended.client.example")
        await look()
        assert shown(authority, held, CLIENT) == {CLIENT, "mended.client.example"}

    with caplog.at_level(logging.INFO, "tenantry.gateway"):
        following(held, steps)
    told = [record.getMessage() for record in caplog.records if record.name == "tenantry.gateway"]
    assert len(told) == 4
    assert all("what was in use before stays in use" in one for one in told[:3])
    assert "certificate client: new files are in use, until " in told[3]


def test_a_pipe_or_a_folder_in_their_place_is_not_waited_for(
    authority: Authority, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    held = Certificates(pairs(authority))

    async def steps(look: Callable[[], Awaitable[None]]) -> None:
        (tmp_path / "client.pem").unlink()
        os.mkfifo(tmp_path / "client.pem")
        for _ in range(4):
            await look()
        (tmp_path / "client.key").unlink()
        (tmp_path / "client.key").mkdir()
        (tmp_path / "client.pem").unlink()
        (tmp_path / "client.pem").write_text("no certificate")
        for _ in range(4):
            await look()
        (tmp_path / "client.key").rmdir()
        authority.issue("client", CLIENT, "mended.client.example")
        await look()
        assert shown(authority, held, CLIENT) == {CLIENT, "mended.client.example"}

    with caplog.at_level(logging.ERROR, "tenantry.gateway"):
        following(held, steps)
    told = [record.getMessage() for record in caplog.records if record.name == "tenantry.gateway"]
    assert [f"{name} is no regular file" in one for name, one in zip(("client.pem", "client.key"), told, strict=True)]


def test_what_has_ended_takes_no_place_of_what_has_not(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    held = Certificates(pairs(authority))

    async def steps(look: Callable[[], Awaitable[None]]) -> None:
        authority.issue("client", CLIENT, "old.client.example", days=-1)
        for _ in range(4):
            await look()
        assert shown(authority, held, CLIENT) == {CLIENT}

    with caplog.at_level(logging.ERROR, "tenantry.gateway"):
        following(held, steps)
    told = [record.getMessage() for record in caplog.records if record.name == "tenantry.gateway"]
    assert len(told) == 1
    assert "client.pem has ended on " in told[0]
    assert "what was in use before stays in use" in told[0]


def test_one_file_that_is_written_after_the_other_is_not_told(
    authority: Authority, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    held = Certificates(pairs(authority))
    before = (tmp_path / "client.key").read_bytes()
    authority.issue("client", CLIENT, "new.client.example")
    after = (tmp_path / "client.key").read_bytes()

    async def steps(look: Callable[[], Awaitable[None]]) -> None:
        replace(tmp_path / "client.key", before)
        await look()
        assert shown(authority, held, CLIENT) == {CLIENT}
        replace(tmp_path / "client.key", after)
        await look()
        assert shown(authority, held, CLIENT) == {CLIENT, "new.client.example"}

    with caplog.at_level(logging.WARNING, "tenantry.gateway"):
        following(held, steps)
    assert caplog.records == []


def test_one_clients_broken_certificate_stops_no_start_but_the_first_ones_does(
    authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = pairs(authority)
    (tmp_path / "client.pem").write_text("broken")
    held = Certificates(files)
    assert "certificate client: " in caplog.text
    assert shown(authority, held, CLIENT) == {MAIN, WILD}
    (tmp_path / "main.pem").write_text("broken")
    with pytest.raises(BadCertificate):
        Certificates(files)


def test_a_key_that_everybody_may_read_is_refused(authority: Authority, tmp_path: Path) -> None:
    cert_file, key_file = authority.issue("main", MAIN)
    key_file.chmod(0o644)
    with pytest.raises(BadCertificate, match=f"chmod o-rwx {key_file}"):
        load_certificate(cert_file, key_file)
    key_file.chmod(0o640)
    assert load_certificate(cert_file, key_file).names == {MAIN}


def test_a_key_of_another_certificate_is_refused(authority: Authority) -> None:
    cert_file, _ = authority.issue("main", MAIN)
    _, key_file = authority.issue("other", MAIN)
    with pytest.raises(BadCertificate, match="cannot be used together: the key is that of another certificate"):
        load_certificate(cert_file, key_file)


def locked(key: bytes) -> bytes:
    made = serialization.load_pem_private_key(key, None)
    form = serialization.PrivateFormat.PKCS8
    return made.private_bytes(serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"secret"))


def public(key: bytes) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return serialization.load_pem_private_key(key, None).public_key().public_bytes(serialization.Encoding.PEM, form)


def der(certificate: bytes) -> bytes:
    return x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)


def damaged(text: bytes) -> bytes:
    return text[:32] + b"AAAA" + text[36:]


# What stands in the two files, made of a certificate, its key and that of its authority; and what is told of them.
BROKEN: dict[str, tuple[Callable[[bytes, bytes, bytes], tuple[bytes, bytes]], str]] = {
    "empty": (lambda cert, key, ca: (b" \n", key), r"main.pem is empty: .*put the file there again"),
    "an empty key": (lambda cert, key, ca: (cert, b""), r"main.key is empty: .*put the file there again"),
    "text": (lambda cert, key, ca: (b"no certificate", key), r"main.pem is not PEM .*put the right file there"),
    "text for a key": (lambda cert, key, ca: (cert, b"secret"), r"main.key is not PEM .*put the right file there"),
    "binary": (
        lambda cert, key, ca: (der(cert), key),
        r"main.pem is in the binary form.*`openssl x509 -inform der -in",
    ),
    "swapped": (lambda cert, key, ca: (key, cert), r"main.pem holds the key and .*main.key the certificate: name them"),
    "a key twice": (lambda cert, key, ca: (key, key), r"main.pem holds no certificate, only: private key"),
    "a certificate twice": (lambda cert, key, ca: (cert, cert), r"main.key holds no private key, only: certificate"),
    "a public key": (lambda cert, key, ca: (cert, public(key)), r"main.key holds no private key, only: public key"),
    "locked": (
        lambda cert, key, ca: (cert, locked(key)),
        r"main.key is locked with a password.*`openssl pkey -in .*key",
    ),
    "cut off": (lambda cert, key, ca: (cert[:-40], key), r"main.pem is cut off.*copy the whole file again"),
    "a chain cut off": (lambda cert, key, ca: (cert + ca[:99], key), r"main.pem is cut off.*copy the whole file again"),
    "a key cut off": (lambda cert, key, ca: (cert, key[:90]), r"main.key is cut off.*copy the whole file again"),
    "damaged": (lambda cert, key, ca: (damaged(cert), key), r"certificate 1 in .*main.pem is damaged: copy"),
    "a chain damaged": (
        lambda cert, key, ca: (cert + damaged(ca), key),
        r"certificate 2 in .*main.pem is damaged: copy",
    ),
    "a key damaged": (lambda cert, key, ca: (cert, damaged(key)), r"the key in .*main.key is damaged: copy"),
    "the authority first": (lambda cert, key, ca: (ca + cert, key), r"main.pem has to begin with .*number 2 in it"),
    "too large": (lambda cert, key, ca: (b"x" * (1 << 20) + b"x", key), r"main.pem has more than a MiB"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_files_that_cannot_be_used_are_told_with_what_to_do_and_without_openssls_words(
    authority: Authority, what: str
) -> None:
    cert_file, key_file = authority.issue("main", MAIN)
    make, words = BROKEN[what]
    both = make(cert_file.read_bytes(), key_file.read_bytes(), authority.ca_file.read_bytes())
    for file, data in zip((cert_file, key_file), both, strict=True):
        file.write_bytes(data)
    with pytest.raises(BadCertificate, match=words) as told:
        load_certificate(cert_file, key_file)
    assert not re.search(r"[A-Z]+_[A-Z]+|\[SSL|_ssl\.c|asn1", str(told.value))


def test_what_is_no_file_is_told(authority: Authority, tmp_path: Path) -> None:
    cert_file, key_file = authority.issue("main", MAIN)
    cert_file.unlink()
    with pytest.raises(BadCertificate, match=r"there is no file .*main.pem"):
        load_certificate(cert_file, key_file)
    cert_file.mkdir()
    with pytest.raises(BadCertificate, match=r"main.pem is a folder"):
        load_certificate(cert_file, key_file)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(BadCertificate, match=r"pipe cannot be used: it is not a regular file"):
        load_certificate(tmp_path / "pipe", key_file)


@pytest.mark.parametrize(
    ("days", "words"),
    [(-1, r"has ended on 20..-..-..; renew it"), (91, r"is not valid before .* set this machine's clock"), (60, None)],
    ids=["expired", "not yet valid", "valid"],
)
def test_a_certificate_that_is_not_valid_now_is_told_at_a_start_and_by_doctor(
    authority: Authority, tmp_path: Path, days: int, words: str | None
) -> None:
    cert_file, key_file = authority.issue("main", MAIN, days=days)
    environ = {
        "TENANTRY_DATA_DIR": str(tmp_path / "data"),
        "TENANTRY_TLS_CERT_FILE": str(cert_file),
        "TENANTRY_TLS_KEY_FILE": str(key_file),
    }
    (said,) = [one for one in examine(load_settings(None, environ)) if one.check == "certificate"]
    assert said.ok is (words is None)
    if words is None:
        assert "use the full chain" in said.found
        load_settings(None, environ, unusable_here)
        return
    with pytest.raises(SettingsError) as refused:
        load_settings(None, environ, unusable_here)
    assert re.search(words, refused.value.problems[0])
    assert re.search(words.partition(";")[0].replace(" on 20..-..-..", ""), said.found)


def test_a_renewal_that_is_not_valid_yet_leaves_what_is_in_use(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    held = Certificates(pairs(authority))

    async def steps(look: Callable[[], Awaitable[None]]) -> None:
        authority.issue("client", CLIENT, "early.client.example", days=91)
        await look()
        await look()
        assert shown(authority, held, CLIENT) == {CLIENT}

    following(held, steps)
    assert "is not valid before" in caplog.text


@pytest.mark.parametrize(
    ("text", "words"), [("", "is empty"), ("none", "is not PEM"), ("-----BEGIN CERTIFICATE-----\nMII", "is cut off")]
)
def test_authorities_that_cannot_be_read_are_told(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "ca.pem"
    file.write_text(text)
    with pytest.raises(BadCertificate, match=words):
        require_authorities(file)
