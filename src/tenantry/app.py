"""The composition root: hands the processes to the command line. A process loads what it needs when it is started: a
gateway nothing of the control plane's, and no command anything of another's.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tenantry.cli.context import INTERRUPTED_WORDS
from tenantry.cli.direct import run_direct
from tenantry.settings import Settings, load_settings

if TYPE_CHECKING:
    from tenantry.control.site import Site


class Processes:
    """The long-running commands. Each returns its exit code."""

    def gateway(self, settings: Settings) -> int:
        gc.disable()  # until it serves: nothing that is loaded is garbage
        from functools import partial

        from tenantry.domain.cells import AmongOthers
        from tenantry.gateway.listening import SEAT, SEATS, CannotListen, listening_socket
        from tenantry.gateway.serving import serve_gateway
        from tenantry.running import READY, REPLACED, run, tell_supervisor
        from tenantry.starting import tell_started

        def ready() -> None:
            tell_started()
            tell_supervisor(READY)

        place = settings.gateway_host, settings.gateway_port
        try:
            listener = listening_socket(*place, settings.journal_dir, os.environ)
        except CannotListen as error:
            return _refused(error)
        replaced = partial(tell_supervisor, REPLACED)
        seat, seats = (int(os.environ.pop(name, "0")) for name in (SEAT, SEATS))
        try:
            return run(settings, serve_gateway(settings.gateway, listener, ready, replaced, seat, seats), outlives=True)
        except AmongOthers as error:
            return _refused(error)

    def control(self, settings: Settings) -> int:
        from tenantry.certificate_files import BadCertificate
        from tenantry.control.presence import SiteReplaced, present
        from tenantry.control_process import TracesMissing, serve_control
        from tenantry.running import PortUnusable, require_port, run
        from tenantry.storage.key_files import require_site

        require_site(settings.data_dir)
        try:
            with present(settings):
                require_port("control", settings.control_host, settings.control_port)
                return run(settings, serve_control(settings))
        except (SiteReplaced, PortUnusable, TracesMissing, BadCertificate) as error:
            return _refused(error)

    def sandbox(self, settings: Settings, host: str, port: int) -> int:
        from tenantry.running import PortUnusable, require_port, run, stop_on_signals
        from tenantry.sandbox.server import serve_sandbox

        try:
            require_port("sandbox", host, port)
        except PortUnusable as error:
            return _refused(error)

        async def serve() -> int:
            await serve_sandbox(host, port, settings.data_dir / "sandbox.log", stop=stop_on_signals())
            return 0

        return run(settings, serve())

    def serve(self, settings: Settings, demo: bool) -> int:
        from tenantry.running import run
        from tenantry.supervisor import Supervisor

        return run(settings, Supervisor(settings, _settings_now, _greet if demo else None).run())


def _settings_now() -> Settings:
    """What the files and variables say by now, as the processes that are started read them. Raises: SettingsError."""
    named = os.environ.get("TENANTRY_CONFIG")
    return load_settings(Path(named) if named else None, os.environ)


def _refused(error: Exception) -> int:
    print(f"tenantry: {error}", file=sys.stderr)
    return 1


def _greet(site: Site) -> str:
    from tenantry.demo import greet

    return greet(site)


def main() -> None:
    """The `tenantry` command."""
    processes = Processes()
    code = run_direct(processes, sys.argv[1:])
    if code is not None:
        sys.exit(code)
    from tenantry.cli.main import build_cli

    try:
        build_cli(processes)()
    except SystemExit as ended:
        # Typer's exit for a Ctrl-C that no command has told (`cli/context.py`).
        if isinstance(getattr(ended.__context__, "__cause__", None), KeyboardInterrupt):
            print(f"tenantry: {INTERRUPTED_WORDS}", file=sys.stderr)
        raise
