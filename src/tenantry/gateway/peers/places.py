"""Where a gateway is reached by the others: what `gateways.address` says, as a value."""

from __future__ import annotations

import hashlib
import re
import socket
from dataclasses import dataclass
from typing import Final

from tenantry.storage.leases import boot_id

_PLACE: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\[\]/:#]+):([0-9]{1,5})#(plain|tls)-([0-9a-f]{64})")
_PLAIN: Final = "plain"
_TLS: Final = "tls"


@dataclass(frozen=True, slots=True)
class Place:
    """`mark`: the SHA-256 of the certificate that is shown there; without TLS, that of the machine it is on."""

    host: str
    port: int
    is_tls: bool
    mark: str

    def text(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}#{_TLS if self.is_tls else _PLAIN}-{self.mark}"


def read_place(text: str) -> Place | None:
    """None: nothing that a gateway of this release can reach."""
    found = _PLACE.fullmatch(text)
    if found is None:
        return None
    host, port, kind, mark = found.groups()
    return Place(host.strip("[]"), int(port), kind == _TLS, mark)


def machine_mark() -> str:
    """Names this machine as long as it runs: loopback there is loopback here."""
    return hashlib.sha256(f"{boot_id()}\0{socket.gethostname()}".encode()).hexdigest()
