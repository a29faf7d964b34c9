"""Upstreams as tenantry.toml declares them."""

import re
from pathlib import Path

import pytest

from tenantry.settings import Settings, SettingsError, load_settings


def loaded(folder: Path, text: str, **environ: str) -> Settings:
    path = folder / "tenantry.toml"
    path.write_text(text)
    return load_settings(path, environ)


def problems(folder: Path, text: str, **environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, text, **environ)
    return caught.value.problems


def test_without_a_declaration_there_is_the_main_one(tmp_path: Path) -> None:
    (main,) = loaded(tmp_path, "", TENANTRY_UPSTREAM_BASE_URL="https://proxy.example").upstreams
    assert (main.name, main.base_url, main.capacity) == ("anthropic", "https://proxy.example", {})


def test_a_declared_upstream_is_read_whole(tmp_path: Path) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    text = f"""
[upstreams.second]
base_url = "https://second.example/claude/"
ca_file = "{ca_file}"
connect_seconds = 0.5
answer_seconds = 60
shares_capacity = true
[upstreams.second.capacity]
sessions_max = 10
requests_per_minute = 50
request_burst = 5
input_tokens_per_minute = 30000
output_tokens_per_minute = "none"
"""
    second = loaded(tmp_path, text).upstreams[1]
    assert (second.base_url, second.ca_file) == ("https://second.example/claude", ca_file)
    assert (second.connect_seconds, second.answer_seconds, second.shares_capacity) == (0.5, 60, True)
    assert second.capacity == {
        "sessions_max": 10,
        "requests_per_minute": 50,
        "request_burst": 5,
        "input_tokens_per_minute": 30000,
        "output_tokens_per_minute": None,
    }


def test_a_capacity_of_requests_alone_lets_a_minute_of_them_come_at_once(tmp_path: Path) -> None:
    text = '[upstreams.a]\nbase_url = "http://a.example"\n[upstreams.a.capacity]\nrequests_per_minute = 50\n'
    assert loaded(tmp_path, text).upstreams[1].capacity["request_burst"] == 50


BAD = 'base_url = "https://a.example"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("upstreams = 5", "must be tables"),
        ("upstreams.a = 5", r"\[upstreams.a\] must be a table"),
        ("[upstreams.a]", "base_url is missing"),
        ('[upstreams.a]\nbase_url = "a.example"', "must be a URL"),
        ('[upstreams.a]\nbase_url = "https://user:word@a.example"', "must not hold a user"),
        ('[upstreams."A B"]\n' + BAD, "name has a-z"),
        ("[upstreams.sandbox]\n" + BAD, "simulation's own"),
        ("[upstreams.anthropic]\n" + BAD, "is the setting upstream_base_url"),
        ("[upstreams.a]\nbase_ulr = 1\n" + BAD, "no 'base_ulr': did you mean 'base_url'"),
        ('[upstreams.a]\nca_file = "/nowhere/ca.pem"\n' + BAD, "there is no file"),
        ("[upstreams.a]\nconnect_seconds = 0\n" + BAD, "connect_seconds must be between 0.1 and 60"),
        ("[upstreams.a]\nconnect_seconds = -1\n" + BAD, "connect_seconds must be between"),
        ("[upstreams.a]\nconnect_seconds = nan\n" + BAD, "connect_seconds must be between"),
        ("[upstreams.a]\nconnect_seconds = true\n" + BAD, "connect_seconds must be a number"),
        ("[upstreams.a]\nanswer_seconds = inf\n" + BAD, "answer_seconds must be between"),
        ('[upstreams.a]\nanswer_seconds = "long"\n' + BAD, "answer_seconds must be a number"),
        ("[upstreams.a]\nshares_capacity = 3\n" + BAD, "shares_capacity must be true or false"),
        ("[upstreams.a]\ncapacity = 5\n" + BAD, "capacity must be a table"),
        ("[upstreams.a]\ncapacity.sessions_max = 0\n" + BAD, "sessions_max must be"),
        ("[upstreams.a]\ncapacity.requests_per_minute = 1.5\n" + BAD, "requests_per_minute must be"),
        (f"[upstreams.a]\ncapacity.requests_per_minute = {10**15}\n" + BAD, "requests_per_minute must be"),
        ("[upstreams.a]\ncapacity.requests_per_minuet = 1\n" + BAD, "did you mean 'requests_per_minute'"),
        ("[upstreams.a]\ncapacity.weight = 1\n" + BAD, "no capacity 'weight'"),
        ("gatway_port = 1", "no setting 'gatway_port': did you mean 'gateway_port'"),
        ("[upstream.a]\n" + BAD, "did you mean 'upstreams'"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, message: str) -> None:
    found = problems(tmp_path, text)
    assert len(found) == 1
    assert re.search(message, found[0]), found


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    text = (
        'gateway_port = "x"\n[upstreams.a]\nconnect_seconds = 0\nanswer_seconds = 0\n[upstreams.b]\n'
        + BAD
        + "capacity.sessions_max = -1\n"
    )
    assert len(problems(tmp_path, text, LOG_LEVEL="loud")) == 6
