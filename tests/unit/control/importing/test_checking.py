"""What an import writes is what a declaration may be: the same checks, before anything is written."""

from datetime import date

import pytest

from tenantry.control.importing.env_file import import_env_file
from tenantry.control.importing.litellm import import_litellm
from tenantry.control.importing.report import ImportRefused

UNTIL = date(2026, 12, 24)
MODEL = "model_list:\n- model_name: a\n  litellm_params: {model: anthropic/claude-haiku-5-5, api_key: os.environ/K}\n"


def test_what_a_declaration_cannot_be_is_refused_at_the_import() -> None:
    rows = "teams: [{team_id: a}]\nkeys: [{key_alias: k, team_id: a, key: os.environ/A, expires: '9999-12-31'}]\n"
    with pytest.raises(ImportRefused) as refused:
        import_litellm("config.yaml", MODEL + rows, UNTIL)
    (told,) = refused.value.problems
    assert told.startswith("tenants.toml, as it would be written: tenants.a.keys.k.expires must be a date")


def test_a_grace_that_no_date_can_have_is_refused_at_the_import() -> None:
    env = (".env.proxy", "ANTHROPIC_API_KEY=sk-ant-api03-x\nTENANT_ACME_KEY=old-key-of-acme-0123456789abcdef\n")
    assert import_env_file(env, None, UNTIL).tenants["tenants"].keys() == {"acme"}
    with pytest.raises(ImportRefused) as refused:
        import_env_file(env, None, date.max)
    assert "tenants.acme.keys.old-proxy.expires" in refused.value.problems[0]
