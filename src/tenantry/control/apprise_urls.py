"""URLs of Apprise: whether one names a service, and the service that it names."""

from __future__ import annotations

import logging
from typing import Any


def open_apprise(url: str, seconds_max: float) -> Any:
    """The one service that a URL names, or None."""
    import apprise

    _hush_libraries()
    asset = apprise.AppriseAsset(
        secure_logging=True, storage_mode=apprise.PersistentStoreMode.MEMORY, service_timeout=seconds_max
    )
    asset.app_id = "Tenantry"
    # Its types are partly unknown.
    library: Any = apprise.Apprise
    service = library.instantiate(url, asset=asset)
    if service is None:
        return None
    opened = library(asset=asset)
    opened.add(service)
    return opened


def is_apprise_url(url: str) -> bool:
    """Whether Apprise knows a service of that kind, and its URL is whole."""
    return open_apprise(url, 1.0) is not None


def _hush_libraries() -> None:
    """At any level, Apprise and what it is built on log URLs with the secrets in them."""
    for name in ("apprise", "urllib3", "requests"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
