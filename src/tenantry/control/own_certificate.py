"""The certificate that the control address is served with, taken anew when its files change."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Final

from tenantry.certificate_files import BadCertificate, load_certificate

# As often as the gateway looks at its own.
TLS_SECONDS: Final = 2.0
log = logging.getLogger("tenantry.control")


class OwnCertificate:
    """A pair of files, and the context in which it is served. Raises: BadCertificate, where it cannot be used."""

    def __init__(self, cert_file: Path, key_file: Path) -> None:
        self._cert_file, self._key_file = cert_file, key_file
        self._seen = self._written()
        self.context: ssl.SSLContext = load_certificate(cert_file, key_file).context

    def step(self) -> None:
        """Serve what is in the files now; what cannot be used is told, and what is served stays."""
        written = self._written()
        if written == self._seen:
            return
        self._seen = written
        try:
            load_certificate(self._cert_file, self._key_file)
            self.context.load_cert_chain(self._cert_file, self._key_file)
        except (BadCertificate, OSError) as error:
            log.error("the certificate of control stays as it was: %s", error)
        else:
            log.info("control is served with the certificate that is in %s now", self._cert_file)

    def _written(self) -> tuple[int, ...]:
        """When, and which files; none where one is missing for the moment."""
        try:
            found = [file.stat() for file in (self._cert_file, self._key_file)]
        except OSError:
            return ()
        return tuple(number for one in found for number in (one.st_mtime_ns, one.st_ino))
