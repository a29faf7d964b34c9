"""Where the store is, and its password, which stands nowhere that is shown."""

from pathlib import Path

import pytest

from tenantry.settings import Settings, SettingsError, load_settings
from tenantry.store_settings import without_password


def told(*environ: tuple[str, str], toml: Path | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load_settings(toml, dict(environ))
    return caught.value.problems


def loaded(**environ: str) -> Settings:
    return load_settings(None, {f"TENANTRY_{name.upper()}": value for name, value in environ.items()})


@pytest.mark.parametrize(
    ("given", "kept", "password"),
    [
        ("sqlite:////var/lib/x:y@z.db", "sqlite:////var/lib/x:y@z.db", None),
        ("postgresql://tenantry@db/tenantry", "postgresql://tenantry@db/tenantry", None),
        ("postgresql://tenantry:hunter2@db:5432/t", "postgresql://tenantry@db:5432/t", "hunter2"),
        ("postgresql+psycopg://tenantry:h%40x@db/t", "postgresql+psycopg://tenantry@db/t", "h@x"),
        ("postgresql://tenantry:h@lf@db/t", "postgresql://tenantry@db/t", "h@lf"),
        ("postgresql:///t?host=/run/postgresql&password=hunter2", "postgresql:///t?host=/run/postgresql", "hunter2"),
        ("postgresql://u@h/t?password=hunter2&sslmode=require", "postgresql://u@h/t?sslmode=require", "hunter2"),
        ("postgresql://u:@h/t", "postgresql://u@h/t", None),
    ],
)
def test_a_password_is_taken_out_of_the_url(given: str, kept: str, password: str | None) -> None:
    assert without_password(given) == (kept, password)


def test_no_setting_that_is_shown_has_the_password(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    by_url = loaded(store_url="postgresql://tenantry:hunter2@db/t")
    by_variable = loaded(store_url="postgresql://tenantry@db/t", store_password="hunter2")
    by_file = loaded(store_url="postgresql://tenantry@db/t", store_password_file=str(secret))
    for settings in (by_url, by_variable, by_file):
        assert settings.store_url == "postgresql://tenantry@db/t"
        assert settings.store_password == settings.gateway.store_password == "hunter2"
        assert "hunter2" not in repr(settings) + repr(settings.gateway)


def test_a_file_of_settings_holds_no_password(tmp_path: Path) -> None:
    toml = tmp_path / "tenantry.toml"
    toml.write_text('store_url = "postgresql://tenantry:hunter2@db/t"\n')
    problems = told(toml=toml)
    assert problems == [f"{toml}: store_url: put its password into a file of mode 0600 that store_password_file names"]
    toml.write_text('store_password = "hunter2"\nstore_url = "postgresql://tenantry@db/t"\n')
    problems = told(toml=toml)
    assert problems == [f"{toml}: store_password: put it into a file of mode 0600 that store_password_file names"]


def test_a_password_that_nothing_takes_or_two_of_them_are_told(tmp_path: Path) -> None:
    (problem,) = told(("TENANTRY_STORE_PASSWORD", "hunter2"))
    assert "only PostgreSQL takes a password" in problem
    (problem,) = told(("TENANTRY_STORE_PASSWORD", "hunter2"), ("TENANTRY_STORE_URL", "postgresql://u:other@h/t"))
    assert "set twice" in problem
    assert "hunter2" not in problem
    assert "other" not in problem
    missing = tmp_path / "none"
    (problem,) = told(("TENANTRY_STORE_PASSWORD_FILE", str(missing)), ("TENANTRY_STORE_URL", "postgresql://u@h/t"))
    assert problem == f"store_password_file: there is no file {missing}"
    missing.write_text("hunter2")
    missing.chmod(0o644)
    (problem,) = told(("TENANTRY_STORE_PASSWORD_FILE", str(missing)), ("TENANTRY_STORE_URL", "postgresql://u@h/t"))
    assert problem == f"store_password_file: {missing} can be read by every user of this machine: chmod 600 {missing}"
