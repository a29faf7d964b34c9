"""`serve` where nothing is yet: it makes the site, and tells no secret to what may be a log."""

from __future__ import annotations

import os
from pathlib import Path

from tests.spawner import spawn
from tests.stack import PATIENCE_SECONDS, free_ports, listens, wait_for


def children_of(pid: int) -> list[int]:
    found = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert found
    return found


def leaves_no_core(pid: int) -> None:
    """A process that holds keys leaves no picture of its memory when it crashes."""
    (limit,) = [line for line in Path(f"/proc/{pid}/limits").read_text().splitlines() if "core file" in line]
    assert limit.split()[4:6] == ["0", "0"]
    assert int(Path(f"/proc/{pid}/coredump_filter").read_text(), 16) == 0


def test_the_first_serve_makes_its_site_and_keeps_the_token_out_of_the_log(tmp_path: Path) -> None:
    gateway, control, sandbox = free_ports(3)
    site, log = tmp_path / "site", tmp_path / "log"
    environ = {
        "TENANTRY_DATA_DIR": str(site),
        "TENANTRY_GATEWAY_PORT": str(gateway),
        "TENANTRY_CONTROL_PORT": str(control),
        "TENANTRY_SANDBOX_PORT": str(sandbox),
    }
    for start in range(2):
        with log.open("ab") as out:
            process = spawn("serve", env=os.environ | environ, cwd=tmp_path, stdout=out, stderr=out)
        try:
            wait_for(lambda: listens(gateway) and listens(control), what="serving")
            for pid in (process.pid, *children_of(process.pid)):
                leaves_no_core(pid)
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)
        token = (site / "admin.token").read_text().strip()
        assert token.startswith("tadm-")
        assert (site / "admin.token").stat().st_mode & 0o777 == 0o600
        told = log.read_text()
        assert token not in told
        assert told.count("Made the database") == 1, start
        assert told.count("Nobody can sign in to the control room") == start + 1
        assert f"http://127.0.0.1:{control} yet: `tenantry keys people link` shows a link" in told


def test_a_database_without_its_key_is_not_nothing(tmp_path: Path) -> None:
    site, log = tmp_path / "site", tmp_path / "log"
    site.mkdir(mode=0o700)
    (site / "tenantry.db").write_bytes(b"")
    with log.open("ab") as out:
        process = spawn(
            "serve", env=os.environ | {"TENANTRY_DATA_DIR": str(site)}, cwd=tmp_path, stdout=out, stderr=out
        )
    assert process.wait(PATIENCE_SECONDS) == 1
    assert not (site / "master.key").exists()


def test_a_process_alone_says_that_there_is_no_site(tmp_path: Path) -> None:
    gateway, control = free_ports(2)
    environ = {
        "TENANTRY_DATA_DIR": str(tmp_path / "none"),
        "TENANTRY_GATEWAY_PORT": str(gateway),
        "TENANTRY_CONTROL_PORT": str(control),
    }
    for name in ("gateway", "control"):
        log = tmp_path / name
        with log.open("ab") as out:
            process = spawn(name, env=os.environ | environ, cwd=tmp_path, stdout=out, stderr=out)
        assert process.wait(PATIENCE_SECONDS) == 1
        told = log.read_text()
        assert "there is no site in" in told, told
        assert "Traceback" not in told
        assert not (tmp_path / "none").exists()
