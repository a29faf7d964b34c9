"""The certificates that clients are shown: by the name they ask for, and read again when their files change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tenantry.certificate_files import PROTOCOLS, BadCertificate, Certificate, load_certificate
from tenantry.setting_tables import CertificateFiles

log = logging.getLogger("tenantry.gateway")

# Asking the disk for four files takes 10 us. A renewal comes a month before the end of what it replaces.
LOOK_SECONDS: Final = 2.0

# Of a file: what changes when it is written, replaced, or opened to others. None: it is not there.
_Mark = tuple[int, int, int, int] | None
_Marks = tuple[_Mark, _Mark]


class Certificates:
    """`context` is what a server is made with; whom it shows is decided at each handshake.

    The first of the files is for a client that names no host, or one that no other is for.
    """

    def __init__(self, files: Sequence[CertificateFiles]) -> None:
        """Raises: BadCertificate: the first cannot be used. Another one that cannot is told, and left out for now."""
        self._files = files
        self._settled = [_marks_of(one) for one in files]  # in use, or told to be unusable
        self._seen = list(self._settled)
        self._held: list[Certificate | None] = [None for _ in files]
        for number, one in enumerate(files):
            try:
                self._held[number] = load_certificate(one.cert_file, one.key_file)
            except BadCertificate as error:
                if number == 0:
                    raise
                log.error("certificate %s: %s; clients that ask for its names are shown the first one", one.name, error)
        self._by_name: dict[str, ssl.SSLContext] = {}
        self._asked = asyncio.Event()
        self._put()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(PROTOCOLS)
        self.context.sni_callback = self._on_name

    def _put(self) -> None:
        """Whoever comes from now on is shown what is held."""
        held = [one for one in self._held if one is not None]
        self._first = held[0].context
        # Where two have a name, the earlier one is shown.
        self._by_name = {name: one.context for one in reversed(held) for name in one.names}

    def _on_name(self, connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _base: ssl.SSLContext) -> None:
        connection.context = self.find(name)

    def find(self, name: str | None) -> ssl.SSLContext:
        """What is shown to a client that asks for this name: its own certificate, that of a wildcard, or the first."""
        if name is None:
            return self._first
        name = name.lower().removesuffix(".")
        found = self._by_name.get(name)
        # RFC 6125 6.4.3: a wildcard stands for one label.
        return found or self._by_name.get("*." + name.partition(".")[2]) or self._first

    def ask(self) -> None:
        """Look at once."""
        self._asked.set()

    async def follow(self) -> None:
        """Read files again when they have changed; connections that are open are not touched."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), LOOK_SECONDS)
            self._asked.clear()
            marks = [_marks_of(one) for one in self._files]
            if marks != self._settled:
                await asyncio.to_thread(self._read, marks)
                self._put()

    def _read(self, marks: list[_Marks]) -> None:
        for number, one in enumerate(self._files):
            if marks[number] == self._settled[number]:
                continue
            is_at_rest, self._seen[number] = marks[number] == self._seen[number], marks[number]
            try:
                held = load_certificate(one.cert_file, one.key_file)
                before = self._held[number]
                why = held.why_not_now()
                if why is not None and before is not None and before.why_not_now() is None:
                    raise BadCertificate(f"{one.cert_file} {why}")
            except BadCertificate as error:
                if is_at_rest:  # else one of the two may not have been written yet
                    self._settled[number] = marks[number]
                    log.error("certificate %s: %s; what was in use before stays in use", one.name, error)
            else:
                self._held[number] = held
                self._settled[number] = marks[number]
                log.info("certificate %s: new files are in use, until %s", one.name, f"{held.ends_at:%Y-%m-%d}")


def _marks_of(files: CertificateFiles) -> _Marks:
    return _mark_of(files.cert_file), _mark_of(files.key_file)


def _mark_of(path: Path) -> _Mark:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode
