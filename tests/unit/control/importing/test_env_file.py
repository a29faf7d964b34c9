"""The classic set-up, whole and broken."""

import tomllib
from datetime import date
from pathlib import Path

import pytest

from tenantry.control.importing.env_file import SHIPPED_TIERS, import_env_file
from tenantry.control.importing.files import texts_of
from tenantry.control.importing.report import Fate, Imported, ImportRefused
from tenantry.domain.limits import read_limits
from tenantry.settings import load_settings
from tenantry.storage.directory import tiers

UNTIL = date(2026, 12, 24)
KEY = "sk-proxy-acme-7f3e91c04d5b4a22"


def imported(text: str, routes: str | None = None, until: date | None = UNTIL) -> Imported:
    return import_env_file((".env.proxy", text), ("routes.json", routes) if routes is not None else None, until)


def problems(text: str, routes: str | None = None) -> list[str]:
    with pytest.raises(ImportRefused) as refused:
        imported(text, routes)
    return refused.value.problems


@pytest.fixture
def classic(fixtures: Path) -> tuple[str, str]:
    folder = fixtures / "classic"
    return (folder / "env.proxy").read_text(), (folder / "tenant-routes.json").read_text()


def test_the_classic_example_becomes_both_files(classic: tuple[str, str], tmp_path: Path) -> None:
    found = imported(*classic)
    texts = texts_of(found, "env-file", ".env.proxy", date(2026, 11, 24))
    document = tomllib.loads(texts["tenants.toml"])
    rates = {"requests_per_minute": 60, "request_burst": 10}
    assert document["tiers"] == {
        "standard": {"sessions_max": 5, **rates},
        "premium": {"sessions_max": 15, **rates},
        "enterprise": {"sessions_max": 50, **rates},
    }
    for limits in document["tiers"].values():
        read_limits(limits)
    assert document["tenants"] == {
        "acme": {
            "name": "Acme",
            "tier": "premium",
            "credential": "env:ACME_ANTHROPIC_KEY",
            "keys": {"production": {}, "old-proxy": {"digest_of": "env:TENANT_ACME_KEY", "expires": UNTIL}},
        },
        "globex-corp": {
            "name": "Globex Corp",
            "tier": "standard",
            "credential": "env:GLOBEX_CORP_ANTHROPIC_KEY",
            "keys": {"production": {}, "old-proxy": {"digest_of": "env:TENANT_GLOBEX_CORP_KEY", "expires": UNTIL}},
        },
        "initech": {
            "name": "Initech",
            "tier": "enterprise",
            "credential": "env:TENANT_INITECH_KEY",
            "keys": {"production": {}},
        },
    }
    file = tmp_path / "tenantry.toml"
    file.write_text(texts["tenantry.toml"])
    settings = load_settings(file, {})
    assert settings.gateway_port == 3100
    assert settings.usage_alert_threshold_percent == 80
    assert set(found.variables) == {"ACME_ANTHROPIC_KEY", "GLOBEX_CORP_ANTHROPIC_KEY"}
    assert found.warnings == []


def test_no_line_is_dropped_in_silence(classic: tuple[str, str]) -> None:
    found = imported(*classic)
    told = {(line.source, line.line) for line in found.lines}
    for number, line in enumerate(classic[0].splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            assert (".env.proxy", number) in told, line
    for number, line in enumerate(classic[1].splitlines(), 1):
        if ":" in line and not line.rstrip().endswith("{"):
            assert ("routes.json", number) in told, line
    assert next(line for line in found.lines if line.name == "NODE_ENV").fate is Fate.NOT_HERE


def test_no_secret_is_copied_or_told(classic: tuple[str, str]) -> None:
    found = imported(*classic)
    everything = repr(found) + "".join(texts_of(found, "env-file", ".env.proxy", UNTIL).values())
    for secret in ("7f3e91c04d5b4a22", "0c1d2e3f4a5b6c7d", "DUMMY-initech"):
        assert secret not in everything


def test_every_problem_is_told_at_once_with_its_line() -> None:
    found = problems(
        "PROXY_PORT=99999\nLOG_LEVEL=loud\nno assignment\nTENANT_A_KEY=sk-ant-oat01-DUMMY\n"
        "TENANT_B_KEY=changeme\nTENANT_C_TIER=standard\nTENANT_D_KEY=\nPROXY_PROT=3000\nTENANT_KEY=abcdefgh\n"
        f"TENANT_E_KEY={KEY}\nTENANT_E_TIER=gold\nTENANT_F_KEY=sk-ant-admin01-DUMMY\nTENANT_G_KEY='a b c d e'\n",
        '{"routing": {"default_tier": "silver"}, "session_limits": {"standard": 0, "x": "many"},\n'
        '"rate_limiting": {"requests_per_minute": "fast"}}',
    )
    for number, words in enumerate(
        ["gateway_port", "LOG_LEVEL", "NAME=VALUE", "subscription", "placeholder", "no TENANT_C_KEY", "is empty"], 1
    ):
        if number > 1:
            assert any(f".env.proxy:{number}:" in problem and words in problem for problem in found), words
    for words in ("PROXY_PORT must be", "did you mean PROXY_PORT?", "names no tenant", "TENANT_E_TIER is no tier",
                  "Admin API key", "no header can carry", "default_tier is no tier", "standard cannot be read",
                  "x cannot be read", "requests_per_minute cannot be read"):  # fmt: skip
        assert any(words in problem for problem in found), words
    assert not any("DUMMY" in problem for problem in found)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "sets nothing"),
        ("# nothing\n\n", "sets nothing"),
        ("PROXY_PORT=3000\n", "names no tenant"),
        (f"TENANT_A_B_KEY={KEY}\nTENANT_A__B_KEY={KEY}x\n", "would both be the tenant a-b"),
        (f"TENANT_A_KEY={KEY}\nTENANT_B_KEY={KEY}\n", "one key cannot be two tenants"),
        (f"TENANT_ACME_KEY={KEY}\nTENANT_ACNE_TIER=standard\n", "did you mean TENANT_ACME_TIER?"),
        (f"TENANT_ACME_KEY={KEY}\nTENANT_ACME_TEIR=standard\n", "did you mean TENANT_ACME_TIER?"),
        (f"TENANT_ACME_KEY={KEY}\nTENANT_ACME_TIER=premum\n", "did you mean premium?"),
        (f"tenant_acme_key={KEY}\nTENANT_B_KEY={KEY}\n", "did you mean TENANT_ACME_KEY?"),
        (f"TENANT_ACME_KEY={KEY}\nANTHROPIC_BASE=https://me:hunter2@api.example\n", "ANTHROPIC_BASE must not hold"),
    ],
)
def test_a_broken_file_is_refused(text: str, words: str) -> None:
    found = problems(text)
    assert any(words in problem for problem in found), found
    assert not any("hunter2" in problem for problem in found)


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "must hold an object"),
        ("[" * 100_000, "nested deeper"),
        ('{"session_limits": {"standard": 5, "standard": 6}}', "twice"),
        ('{"session_limits": {"standard": 5}, "routing": {"session_limits": {"standard": 6}}}', "differs"),
        ('{"session_limits": {"Über tier": 5}}', "no tier's name"),
        ('{"session_limits": {"standard": true}}', "cannot be read"),
        ('{"rate_limiting": {"burst_allowance": -1}}', "cannot be read"),
        ('{"rate_limiting": {"requests_per_minute": null}}', "must be a whole number"),
        ('{"routing": {"default_tier": 7}}', "is no tier"),
        ('{"a": ' + "9" * 5000 + "}", "not valid JSON"),
    ],
)
def test_broken_routes_are_refused(routes: str, words: str) -> None:
    found = problems(f"TENANT_A_KEY={KEY}\n", routes)
    assert any(words in problem for problem in found), found
    assert all(len(problem) < 600 for problem in found)


def test_one_anthropic_key_for_all_is_shared_and_said_so() -> None:
    text = f"ANTHROPIC_API_KEY=sk-ant-api03-DUMMY\nTENANT_A_KEY={KEY}\nTENANT_B_KEY={KEY}2\n"
    found = imported(text)
    for slug in ("a", "b"):
        assert found.tenants["tenants"][slug]["credential"] == "env:ANTHROPIC_API_KEY"
        assert found.tenants["tenants"][slug]["shared_credential"] is True
    assert any("share one Anthropic key" in warning for warning in found.warnings)
    assert found.variables == {}
    alone = imported(text.replace("TENANT_B", "#TENANT_B"))
    assert "shared_credential" not in alone.tenants["tenants"]["a"]


def test_two_names_of_one_anthropic_key_are_shared_too() -> None:
    found = imported("TENANT_A_KEY=sk-ant-api03-DUMMY\nTENANT_B_KEY=sk-ant-api03-DUMMY\n")
    assert [entry["shared_credential"] for entry in found.tenants["tenants"].values()] == [True, True]


def test_without_a_grace_no_old_key_is_taken_over() -> None:
    found = imported(f"TENANT_A_KEY={KEY}\n", until=None)
    assert found.tenants["tenants"]["a"]["keys"] == {"production": {}}
    assert found.lines[0].fate is Fate.NOT_HERE


def test_of_two_lines_with_one_name_the_last_counts_and_the_first_is_told() -> None:
    found = imported(f"TENANT_A_KEY={KEY}\nPROXY_PORT=1\nPROXY_PORT=2\n")
    assert found.settings["gateway_port"] == 2
    assert any(line.line == 2 and "line 3 sets it again" in line.becomes for line in found.lines)


def test_a_file_from_windows_is_read_and_the_shells_trouble_is_said() -> None:
    found = imported(f"\ufeffTENANT_A_KEY={KEY}\r\nLOG_LEVEL = info\r\n")
    assert found.settings == {"log_level": "info"}
    told = " ".join(found.warnings)
    for words in ("byte order mark", "Windows line ends", "spaces around"):
        assert words in told


def test_an_old_key_that_can_be_guessed_is_told() -> None:
    assert any("can be guessed" in warning for warning in imported("TENANT_A_KEY=acme-2024\n").warnings)


def test_a_tier_of_session_limits_may_be_used() -> None:
    found = imported(
        f"TENANT_A_KEY={KEY}\nTENANT_A_TIER=Gold\n", '{"session_limits": {"gold": 25}, "other": {"x": [1]}}'
    )
    assert found.tenants["tiers"] == {"gold": {"sessions_max": 25}}
    assert found.tenants["tenants"]["a"]["tier"] == "gold"
    assert next(line for line in found.lines if line.name == "other.x").fate is Fate.NOT_HERE


def test_the_tiers_that_ship_are_the_stores() -> None:
    assert tuple(tiers.SHIPPED_SESSIONS) == SHIPPED_TIERS
