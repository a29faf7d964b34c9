"""The container's files, as far as they can be looked at without an engine: what they copy, run and ask is there."""

from __future__ import annotations

import http.server
import json
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

from tenantry.settings import SETTINGS

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())


def test_what_is_copied_is_there_and_what_runs_is_not_root() -> None:
    for line in re.findall(r"^COPY (?!--from)(.+)$", CONTAINERFILE, re.MULTILINE):
        assert [word for word in line.split()[:-1] if not (ROOT / word).exists()] == []
    assert re.findall(r"^USER (.+)$", CONTAINERFILE, re.MULTILINE) == ["10001:10001"]
    assert "--uid 10001" in CONTAINERFILE


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_health_check_is_what_its_answer_is(status: int, code: int) -> None:
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found = re.search(r"^HEALTHCHECK [^\[]*\\\n\s+CMD (\[.+\])$", CONTAINERFILE, re.MULTILINE)
    assert found is not None
    words = json.loads(found.group(1).replace(":3000/", f":{server.server_port}/"))
    assert words[0] == "python"
    done = subprocess.run([sys.executable, *words[1:]], capture_output=True, check=False)
    server.shutdown()
    server.server_close()
    assert min(done.returncode, 1) == code


def test_the_services_of_compose_are_closed_and_know_only_settings_that_there_are() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
    environment = COMPOSE["services"]["tenantry"]["environment"]
    named = set(environment) | set(re.findall(r"^\s*(?:ENV )?(TENANTRY_\w+)=", CONTAINERFILE, re.MULTILINE))
    assert {name.removeprefix("TENANTRY_").lower() for name in named} <= set(SETTINGS)
    assert (ROOT / "deploy" / COMPOSE["services"]["tenantry"]["build"]["context"] / "deploy" / "Containerfile").exists()
    example = (ROOT / "deploy" / "compose.env.example").read_text()
    wanted = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy" / "compose.yaml").read_text()))
    assert wanted <= set(re.findall(r"^(\w+)=", example, re.MULTILINE))
