"""A process that cannot listen says so in one line, whichever it is and however it was started."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tenantry.running import PortUnusable, require_port
from tenantry.settings import load_settings
from tests.stack import free_ports
from tests.template import init_from_template


@pytest.mark.parametrize(
    ("words", "setting"),
    [
        (["gateway"], "TENANTRY_GATEWAY_PORT"),
        (["control"], "TENANTRY_CONTROL_PORT"),
        (["sandbox"], "TENANTRY_SANDBOX_PORT"),
        (["serve", "--demo"], "TENANTRY_GATEWAY_PORT"),
        (["serve", "--demo"], "TENANTRY_CONTROL_PORT"),
        (["serve", "--demo"], "TENANTRY_SANDBOX_PORT"),
    ],
)
def test_a_port_that_is_taken_is_told(tmp_path: Path, words: list[str], setting: str) -> None:
    ports = ("TENANTRY_GATEWAY_PORT", "TENANTRY_CONTROL_PORT", "TENANTRY_SANDBOX_PORT")
    environ = dict(zip(ports, map(str, free_ports(3)), strict=True)) | {"TENANTRY_DATA_DIR": str(tmp_path)}
    init_from_template(load_settings(None, environ))
    with socket.create_server(("127.0.0.1", int(environ[setting]))):
        clean = {name: value for name, value in os.environ.items() if name != "ANTHROPIC_API_KEY"}
        done = subprocess.run(
            [sys.executable, "-m", "tenantry", *words],
            env={**clean, **environ},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert len(said) == 1, done.stderr
    assert f"127.0.0.1:{environ[setting]}" in said[0]
    assert "set another" in said[0]


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(PortUnusable, match=r"gateway cannot listen on 203\.0\.113\.1:0"):
        require_port("gateway", "203.0.113.1", 0)
