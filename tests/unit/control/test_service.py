"""Units for systemd: what systemd itself says of them, and what cannot stand in one."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tenantry.control.service import UnitsImpossible, install, units
from tenantry.settings import Settings, load_settings

# Of 10; below 2 systemd calls it "OK", and what is left is the network that a gateway needs (docs/production.md).
EXPOSURE_MAX = 1.6
ANALYZE = shutil.which("systemd-analyze")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path / "site")})


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed here")
@pytest.mark.parametrize("of_system", [True, False])
def test_systemd_takes_the_units_and_finds_them_walled_in(settings: Settings, tmp_path: Path, of_system: bool) -> None:
    install(found := units(settings, tmp_path, None, of_system=of_system), folder := tmp_path / "units")
    assert [path.name for path in sorted(folder.iterdir())] == sorted(unit.name for unit in found)
    verify = subprocess.run(
        [str(ANALYZE), "verify", "--man=no", *(str(folder / unit.name) for unit in found)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = [line for line in verify.stderr.splitlines() if "tenantry" in line and "not executable" not in line]
    assert told == []
    if of_system:
        for name in ("tenantry.service", "tenantry-backup.service"):
            score = subprocess.run(
                [str(ANALYZE), "security", "--offline=yes", "--no-pager", str(folder / name)],
                capture_output=True,
                text=True,
                timeout=60,
            )
            found_score = re.search(r"exposure level for \S+: ([0-9.]+)", score.stdout)
            assert found_score is not None, score.stderr
            assert float(found_score[1]) <= EXPOSURE_MAX


def test_the_address_that_is_set_is_the_sockets_and_a_stop_waits_for_the_drain(
    settings: Settings, tmp_path: Path
) -> None:
    changed = replace(settings, gateway_host="::", gateway_port=8443, drain_seconds=90.0)
    texts = {unit.name: unit.text for unit in units(changed, tmp_path, tmp_path / "tenantry.toml", of_system=True)}
    assert "ListenStream=[::]:8443\n" in texts["tenantry.socket"]
    assert "TimeoutStopSec=125\n" in texts["tenantry.service"]
    assert f"TENANTRY_CONFIG={tmp_path}/tenantry.toml\n" in texts["tenantry-backup.service"]


@pytest.mark.parametrize("name", ["a b", "per%cent", "quo'te", "x;y", "ümlaut", "new\nline", "$HOME"])
def test_a_path_that_would_have_to_be_quoted_is_refused(settings: Settings, tmp_path: Path, name: str) -> None:
    with pytest.raises(UnitsImpossible, match="cannot stand in a unit"):
        units(settings, tmp_path / name, None, of_system=True)


def test_homes_stay_closed_unless_something_of_the_site_is_in_one(settings: Settings, tmp_path: Path) -> None:
    in_home = replace(settings, data_dir=Path("/home/agency/site"))
    assert "ProtectHome=read-only\n" in units(in_home, tmp_path, None, of_system=True)[0].text
