"""A gateway with one planted fault: `python -m tests.faulty_gateway FAULT`. For tests only; see `tests.planted`."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys

from tenantry.gateway.serving import serve_gateway
from tenantry.settings import load_settings
from tests.planted import FAULTS, answers, callers, shares

__all__ = ["FAULTS", "answers", "callers", "shares"]


def main() -> int:
    settings = load_settings(None, os.environ)
    logging.basicConfig(level=settings.log_level, stream=sys.stderr)
    FAULTS[sys.argv[1]].plant()
    listener = socket.create_server((settings.gateway_host, settings.gateway_port))
    return asyncio.run(serve_gateway(settings.gateway, listener))


if __name__ == "__main__":
    sys.exit(main())
