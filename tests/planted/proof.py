"""The isolation proof against a gateway with a planted fault: the groups that concern it, or all of them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tenantry.control.isolation.engine import clean_site, prove_probes
from tenantry.control.isolation.findings import Report
from tenantry.control.isolation.pace import kept_pace
from tenantry.control.isolation.probes import NAME
from tenantry.control.isolation.report import as_html
from tenantry.control.isolation.stage import Listener, Options, begin
from tests.faulty_gateway import FAULTS
from tests.spawner import spawn
from tests.stack import Stack, listens, wait_for

ROOT = Path(__file__).parents[2]
# What no fault can be hidden from, for a night: `TENANTRY_TESTS_PROOF=whole`.
IS_WHOLE = os.environ.get("TENANTRY_TESTS_PROOF") == "whole"


def prove(stack: Stack, *only: str) -> Report:
    """The quick proof, or some groups of it, on the gateway that runs."""
    options = Options(quick=True, logs=tuple(stack.folder.glob("*.log")), only=frozenset(only))
    with kept_pace() as pace, clean_site(stack.site):
        return prove_probes(begin(stack.site, options, Listener(), pace))


def probes_of(stack: Stack) -> list[str]:
    """What there is of a probe on the site."""
    directory = stack.site.directory
    names = [row.slug for row in directory.list_tenants() if row.name == NAME]
    names += [row.name for row in directory.list_credentials() if row.name.startswith("probe-")]
    return names + [row.name for row in directory.list_upstreams() if row.name.startswith("probe-")]


def require_caught(stack: Stack, name: str) -> None:
    """Start a gateway with this fault, prove, and require that the check which is meant for it is red."""
    fault = FAULTS[name]
    with (stack.folder / f"gateway-{name}.log").open("wb") as log:
        stack.processes["gateway"] = spawn(
            name, env=os.environ | stack.environ, cwd=ROOT, stdout=log, stderr=log, module="tests.faulty_gateway"
        )
    wait_for(lambda: listens(stack.port), what="the faulty gateway listening")
    try:
        report = prove(stack, *([] if IS_WHOLE else [fault.group]))
    finally:
        stack.kill("gateway", signal.SIGTERM)
    assert report.verdict == "FAIL"
    red = [check.tried for group in report.groups if group.name == fault.group for check in group.failures]
    assert any(fault.seen in tried for tried in red), red
    assert probes_of(stack) == []
    page = as_html(report)
    assert "✗ FAIL" in page
    assert "sk-proxy-" not in page
    assert "sandbox-canary" not in page
