"""`tenantry import` as a user types it."""

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.spawner import run
from tests.stack import Stack

SECRETS = ("7f3e91c04d5b4a22", "0c1d2e3f4a5b6c7d", "DUMMY-initech", "sk-literal-initech", "sk-1234-literal")


def tenantry(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(*words, env=os.environ, cwd=folder)


@pytest.fixture
def classic(tmp_path: Path, fixtures: Path) -> Path:
    """A folder with the classic set-up."""
    (tmp_path / ".env.proxy").write_bytes((fixtures / "classic" / "env.proxy").read_bytes())
    (tmp_path / "tenant-routes.json").write_bytes((fixtures / "classic" / "tenant-routes.json").read_bytes())
    return tmp_path


def test_the_classic_set_up_moves_over_in_one_command(classic: Path) -> None:
    done = tenantry(classic, "import", "env-file", ".env.proxy", "--routes", "tenant-routes.json")
    assert done.returncode == 0, done.stderr
    for words in ("PROXY_PORT", "gateway_port = 3100", "backoff_strategy", "built in", "NODE_ENV", "no meaning here"):
        assert words in done.stdout
    for step in ("set -a; . ./.env.proxy; set +a", "tenantry plan", "tenantry apply"):
        assert step in done.stdout
    document = tomllib.loads((classic / "tenants.toml").read_text())
    assert list(document["tenants"]) == ["acme", "globex-corp", "initech"]
    written = (classic / "tenants.toml").read_text() + (classic / "tenantry.toml").read_text()
    for secret in SECRETS:
        assert secret not in written + done.stdout + done.stderr
    # The written settings are ones that every command accepts.
    assert tenantry(classic, "init").returncode == 0


def test_what_comes_next_is_a_shell_that_reads_the_old_keys(classic: Path) -> None:
    done = tenantry(classic, "import", "env-file", ".env.proxy", "--out", "new folder", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["files"] == ["new folder/tenants.toml", "new folder/tenantry.toml"]
    assert {"file", "line", "name", "fate", "becomes"} == set(told["lines"][0])
    script = "\n".join([*told["next"][:2], 'printf "%s %s" "$PWD" "$TENANT_ACME_KEY"'])
    shell = subprocess.run(["sh", "-eu", "-c", script], cwd=classic, capture_output=True, text=True, check=False)
    assert shell.stdout == f"{classic}/new folder sk-proxy-acme-7f3e91c04d5b4a22"


def test_files_that_are_there_stay_unless_forced(classic: Path) -> None:
    (classic / "tenants.toml").write_text("mine")
    refused = tenantry(classic, "import", "env-file", ".env.proxy")
    assert refused.returncode == 1
    assert "--force" in refused.stderr
    assert (classic / "tenants.toml").read_text() == "mine"
    assert not (classic / "tenantry.toml").exists()
    assert tenantry(classic, "import", "env-file", ".env.proxy", "--force").returncode == 0
    assert "[tenants.acme]" in (classic / "tenants.toml").read_text()


def test_a_broken_set_up_is_told_whole_with_exit_2(classic: Path) -> None:
    (classic / ".env.proxy").write_text("PROXY_PORT=abc\nTENANT_ACME_KEY=sk-ant-oat01-DUMMY\nnonsense\n")
    (classic / "tenant-routes.json").write_text('{"routing": {"default_tier": "gold"}}')
    done = tenantry(classic, "import", "env-file", ".env.proxy", "--routes", "tenant-routes.json")
    assert done.returncode == 2
    for words in (".env.proxy:1:", ".env.proxy:2:", ".env.proxy:3:", "tenant-routes.json:1:", "4 to mend first"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert "DUMMY" not in done.stderr
    assert not (classic / "tenants.toml").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["missing.env"], "cannot be read"),
        ([".env.proxy", "--routes", "missing.json"], "cannot be read"),
        (["."], "cannot be read"),
        (["huge.env"], "is larger than 1 MiB"),
        (["latin.env"], "latin.env:2: is not UTF-8"),
        ([".env.proxy", "--grace", "soon"], "--grace must be"),
        ([".env.proxy", "--grace", "9999d"], "--grace must be"),
    ],
)
def test_a_file_that_is_none_is_told_with_exit_2(classic: Path, words: list[str], told: str) -> None:
    (classic / "huge.env").write_bytes(b"A=b\n" * 300_000)
    (classic / "latin.env").write_bytes(b"A=b\nB=\xe4\n")
    done = tenantry(classic, "import", "env-file", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_told(classic: Path) -> None:
    done = tenantry(classic, "import", "env-file", ".env.proxy", "--out", "tenant-routes.json")
    assert done.returncode == 1
    assert "could not be written" in done.stderr


def test_litellm_moves_over_and_says_what_does_not(tmp_path: Path, fixtures: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((fixtures / "litellm" / "config.yaml").read_bytes())
    done = tenantry(tmp_path, "import", "litellm", "config.yaml", "--out", "out", "--grace", "2w")
    assert done.returncode == 0, done.stderr
    assert "openai: this gateway forwards" in done.stdout
    assert "export ACME_LITELLM_KEY" in done.stdout
    assert "was not copied" in done.stderr
    written = (tmp_path / "out" / "tenants.toml").read_text() + (tmp_path / "out" / "tenantry.toml").read_text()
    for secret in SECRETS:
        assert secret not in written + done.stdout + done.stderr
    assert tomllib.loads((tmp_path / "out" / "tenants.toml").read_text())["tenants"]["acme-gmbh"]["budget"]
    (tmp_path / "config.yaml").write_text("a: &a [1]\nb: *a\n")
    broken = tenantry(tmp_path, "import", "litellm", "config.yaml")
    assert broken.returncode == 2
    assert "config.yaml:2:" in broken.stderr


def test_the_old_keys_go_on_working_once_the_import_is_applied(own_stack: Stack, classic: Path) -> None:
    stack = own_stack.start()
    secrets = {
        "TENANT_ACME_KEY": "sk-proxy-acme-7f3e91c04d5b4a22",
        "TENANT_GLOBEX_CORP_KEY": "sk-proxy-globex-0c1d2e3f4a5b6c7d",
    }
    own = {f"{name}_ANTHROPIC_KEY": f"sandbox-canary-{name.lower()}" for name in ("ACME", "GLOBEX_CORP")}
    text = "".join(f"{name}='{value}'\n" for name, value in secrets.items())
    (classic / ".env.proxy").write_text(text)
    assert tenantry(classic, "import", "env-file", ".env.proxy").returncode == 0
    stack.site.directory.set_upstream("anthropic", f"http://127.0.0.1:{stack.settings.sandbox_port}")
    environ = os.environ | stack.environ | secrets | own
    done = run("apply", "--yes", "--keys-out", "keys.txt", env=environ, cwd=classic)
    assert done.returncode == 0, done.stderr
    for slug, key in zip(("acme", "globex-corp"), secrets.values(), strict=True):
        assert stack.message(key, path=f"/t/{slug}/v1/messages")[0] == 200
