"""A LiteLLM configuration: what has a meaning is taken, the rest is listed, and nothing explodes."""

import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantry.control.importing.files import next_steps, texts_of
from tenantry.control.importing.litellm import import_litellm
from tenantry.control.importing.report import Fate, Imported, ImportRefused
from tenantry.domain.limits import read_limits

UNTIL = date(2026, 12, 24)
MODEL = "model_list:\n- model_name: a\n  litellm_params: {model: anthropic/claude-haiku-5-5, api_key: os.environ/K}\n"


def imported(text: str, until: date | None = UNTIL) -> Imported:
    return import_litellm("config.yaml", text, until)


def problems(text: str) -> list[str]:
    with pytest.raises(ImportRefused) as refused:
        imported(text)
    return refused.value.problems


def tenant(rows: str, slug: str = "a") -> dict[str, Any]:
    return imported(MODEL + rows).tenants["tenants"][slug]


@pytest.fixture
def example(fixtures: Path) -> str:
    return (fixtures / "litellm" / "config.yaml").read_text()


def test_the_example_becomes_both_files(example: str) -> None:
    found = imported(example)
    document = tomllib.loads(texts_of(found, "litellm", "config.yaml", UNTIL)["tenants.toml"])
    tier = document["tiers"]["litellm"]
    assert tier["sessions_max"] == 20
    assert tier["models"] == ["claude-haiku-5-5", "claude-sonnet-5-5"]
    read_limits(tier)
    acme = document["tenants"]["acme-gmbh"]
    assert acme["limits"] == {
        "requests_per_minute": 120,
        "request_burst": 120,
        "input_tokens_per_minute": 400_000,
        "models": ["claude-sonnet-5-5", "claude-haiku-5-5"],
    }
    assert acme["budget"] == {"month_usd": "50.00", "mode": "hard"}
    assert (acme["credential"], acme["shared_credential"]) == ("env:ANTHROPIC_API_KEY", True)
    assert "fallback" not in acme
    assert acme["keys"]["production"]["expires"] == date(2027, 6, 30)
    assert acme["keys"]["production-old"]["digest_of"] == "env:ACME_LITELLM_KEY"
    assert acme["keys"]["production-old"]["expires"] == UNTIL
    assert document["tenants"]["globex"]["status"] == "disabled"
    assert document["tenants"]["globex"]["budget"] == {"day_usd": "5.00", "mode": "hard"}
    initech = document["tenants"]["initech"]
    assert initech["budget"] == {"month_usd": "100.00", "mode": "hard"}
    assert initech["limits"]["requests_per_minute"] == 30


def test_every_value_of_the_file_is_told(example: str) -> None:
    lines = {line.line for line in imported(example).lines}

    def leaves(node: yaml.Node) -> list[int]:
        if isinstance(node, yaml.MappingNode):
            return [number for _, value in node.value for number in leaves(value)]
        if isinstance(node, yaml.SequenceNode) and node.value and not node.flow_style:
            return [number for value in node.value for number in leaves(value)]
        return [node.start_mark.line + 1]

    # One line of the report speaks for a whole model of another provider, and for all defaults of keys.
    spoken_for = {14, 15, 16, 23}
    assert set(leaves(yaml.compose(example))) - lines - spoken_for == set()


def test_what_has_no_meaning_is_listed_with_its_reason(example: str) -> None:
    fates = {line.name: line for line in imported(example).lines}
    assert fates["model_list[2]"].fate is Fate.NOT_HERE
    assert "openai" in fates["model_list[2]"].becomes
    assert fates["litellm_settings.success_callback[0]"].fate is Fate.NOT_HERE
    assert fates["litellm_settings.num_retries"].fate is Fate.BUILT_IN
    assert fates["general_settings.database_url"].fate is Fate.NOT_HERE


def test_literal_secrets_are_never_copied(example: str) -> None:
    found = imported(example)
    everything = repr(found) + "".join(texts_of(found, "litellm", "config.yaml", UNTIL).values())
    for secret in ("sk-literal-initech", "sk-1234-literal"):
        assert secret not in everything
    assert any("was not copied" in warning for warning in found.warnings)
    assert any("INITECH_INITECH_LITELLM_KEY" in step for step in next_steps(found, None, Path()))


def test_without_teams_and_keys_the_master_keys_users_are_one_tenant() -> None:
    found = imported(MODEL + "general_settings: {master_key: os.environ/MASTER}\n")
    assert found.tenants["tenants"]["litellm"]["keys"]["litellm-master"] == {
        "digest_of": "env:MASTER",
        "expires": UNTIL,
    }
    assert "shared_credential" not in found.tenants["tenants"]["litellm"]
    assert any("names no team and no key" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("amount", "duration", "budget"),
    [
        ("50", "30d", {"month_usd": "50.00"}),
        ("50", "1mo", {"month_usd": "50.00"}),
        ("50", "31d", {"month_usd": "50.00"}),
        ("7.5", "7d", {"week_usd": "7.50"}),
        ("1", "24h", {"day_usd": "1.00"}),
        ("1", "12h", {"day_usd": "1.00"}),
        ("1", "14d", {"month_usd": "1.00"}),
        ("100", "365d", {"month_usd": "8.21"}),
        ("0.000001", "1d", {"day_usd": "0.000001"}),
        ("5", "null", {"month_usd": "5.00"}),
    ],
)
def test_a_budget_is_never_more_than_it_was(amount: str, duration: str, budget: dict[str, str]) -> None:
    found = tenant(f"teams: [{{team_id: a, max_budget: {amount}, budget_duration: {duration}}}]\n")
    assert found["budget"] == {**budget, "mode": "hard"}


def test_a_budget_of_nothing_disables_the_tenant() -> None:
    found = tenant("teams: [{team_id: a, max_budget: 0.0, budget_duration: 1d}]\n")
    assert found["status"] == "disabled"
    assert "budget" not in found


def test_a_budget_for_ever_is_said_to_come_again() -> None:
    found = imported(MODEL + "teams: [{team_id: a, max_budget: 5}]\n")
    assert any("again every month" in warning for warning in found.warnings)


def test_a_team_with_no_model_of_ours_is_disabled_and_not_opened() -> None:
    found = tenant("teams: [{team_id: a, models: [gpt-4o]}]\n")
    assert found["status"] == "disabled"
    assert "limits" not in found


def test_a_key_cannot_have_more_than_its_team() -> None:
    found = tenant(
        "teams: [{team_id: a, rpm_limit: 10}]\nkeys: [{key_alias: k, team_id: a, rpm_limit: 20, tpm_limit: 5}]\n"
    )
    assert found["keys"]["k"]["limits"] == {"input_tokens_per_minute": 5}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must hold a mapping"),
        ("- a\n", "must hold a mapping"),
        ("{}", "names no model"),
        ("a: [", "not valid YAML"),
        ("a: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("a: &x 1\nb: *x\n", "alias"),
        ("a: 1\na: 2\n", "twice"),
        ("a: " + "[" * 5000 + "]" * 5000, "more than 20 levels"),
        ("a: [" + "1," * 60_000 + "]", "more than 50,000 parts"),
        ("a: 1\n---\nb: 2\n", "not valid YAML"),
        ("a: \x00", "not valid YAML"),
        (MODEL + "teams: [{max_budget: 5}]\n", "has no team_alias"),
        (MODEL + "teams: [{team_id: A b}, {team_id: a-b}]\n", "a second time"),
        (MODEL + "teams: [{team_id: a, max_budget: -5, budget_duration: 30d}]\n", "is no budget"),
        (MODEL + "teams: [{team_id: a, max_budget: .nan, budget_duration: 30d}]\n", "is no budget"),
        (MODEL + "teams: [{team_id: a, max_budget: 5, budget_duration: soon}]\n", "is no budget"),
        (MODEL + "teams: [{team_id: a, max_budget: true}]\n", "is no budget"),
        (MODEL + "teams: [{team_id: a, max_budget: 1e12}]\n", "is no budget"),
        (MODEL + "teams: [{team_id: a, max_budget: 1.0e-12}]\n", "is no budget"),
        (MODEL + "teams: [{team_id: a, rpm_limit: 0}]\n", "cannot be read"),
        (MODEL + "teams: [{team_id: a, rpm_limit: many}]\n", "cannot be read"),
        (MODEL + "keys: [{key_alias: k, team_id: nobody}]\n", "names no team"),
        (
            MODEL + "teams: [{team_id: a}]\nkeys: [{key_alias: k, team_id: a}, {key_alias: k, team_id: a}]\n",
            "second key",
        ),
        (MODEL + "keys: [{key_alias: k, key: sk-ant-oat01-DUMMY}]\n", "subscription"),
        (MODEL + "keys: [{key_alias: k, key: 'os.environ/X; rm -rf .'}]\n", "names no environment variable"),
        (MODEL + "keys: [{key_alias: k, expires: soon}]\n", "no date"),
        (MODEL.replace("api_key", "api_base: 'ftp://x', api_key"), "must be a URL"),
    ],
)
def test_a_broken_file_is_refused_with_its_reason(text: str, words: str) -> None:
    found = problems(text)
    assert any(words in problem for problem in found), found
    assert not any("DUMMY" in problem for problem in found)


def test_a_model_without_a_key_uses_what_litellm_used() -> None:
    found = imported("model_list: [{model_name: x, litellm_params: {model: claude-haiku-5-5}}]\n")
    assert found.tenants["tenants"]["litellm"]["credential"] == "env:ANTHROPIC_API_KEY"
    assert "ANTHROPIC_API_KEY" in found.variables


def test_a_second_key_is_the_fallback_of_a_tenant_that_is_alone() -> None:
    second = "- model_name: b\n  litellm_params: {model: claude-sonnet-5-5, api_key: os.environ/SPARE}\n"
    alone = imported(MODEL + second + "teams: [{team_id: a}]\n")
    assert alone.tenants["tenants"]["a"]["fallback"] == "env:SPARE"
    several = imported(MODEL + second + "teams: [{team_id: a}, {team_id: b}]\n")
    assert all("fallback" not in entry for entry in several.tenants["tenants"].values())
    assert any("--shared" in warning for warning in several.warnings)
    assert "SPARE" not in several.variables


def test_a_wildcard_allows_every_claude_model() -> None:
    found = imported(
        MODEL + "- model_name: '*'\n  litellm_params: {model: 'anthropic/*', api_base: 'https://u.example/v1'}\n"
    )
    assert "models" not in found.tenants["tiers"]["litellm"]
    assert found.settings == {"upstream_base_url": "https://u.example"}
