"""The way from a command to the gateway of its own site: on this machine, whatever DNS says of its public name."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

from tenantry.setting_checks import reached_at
from tenantry.settings import Settings


def own_host(settings: Settings) -> str:
    """Where the gateway is reached from here, when it listens everywhere too."""
    return reached_at(settings.gateway_host)


def own_trust(settings: Settings) -> ssl.SSLContext | None:
    """Trusts the gateway's own certificates and nothing else, whoever signed them; None without TLS."""
    if not settings.certificates:
        return None
    context = ssl.create_default_context(cafile=str(settings.certificates[0].cert_file))
    for one in settings.certificates[1:]:  # one of these may be that of the public name
        context.load_verify_locations(one.cert_file)
    # The files hold a chain without its root: what they begin with is enough.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False  # their names are public ones, not this address
    return context


def connect_own(settings: Settings, seconds: float) -> socket.socket:
    """A connection that asks for the public name where TLS is spoken.

    Raises:
        OSError: nobody listens, or somebody else.
    """
    plain = socket.create_connection((own_host(settings), settings.gateway_port), timeout=seconds)
    trust = own_trust(settings)
    if trust is None:
        return plain
    try:
        return trust.wrap_socket(plain, server_hostname=urlsplit(settings.public_url).hostname or own_host(settings))
    except OSError:
        plain.close()
        raise
