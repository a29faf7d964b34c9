"""Which model the live check asks, and what it waits for."""

from pathlib import Path

import pytest

from tenantry.control import live_check
from tenantry.control.live_check import pick_model
from tenantry.settings import load_settings


@pytest.mark.parametrize(
    ("listed", "picked"),
    [
        (["gpt-x-haiku", "claude-opus-5-5", "claude-haiku-5-5"], "claude-haiku-5-5"),
        (["glm-5", "claude-opus-5-5"], "claude-opus-5-5"),
        (["glm-5", "other"], "glm-5"),
    ],
)
def test_it_is_the_cheapest_line_of_claude_s_where_there_is_one(listed: list[str], picked: str) -> None:
    assert pick_model(listed) == picked


def test_where_several_gateways_serve_on_one_port_each_is_waited_for_until_it_knows_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = (401, {}, b'{"error": {"message": "Invalid gateway API key."}}')
    message = (200, {}, b'{"usage": {"input_tokens": 9, "output_tokens": 1}}')
    answers = {
        "GET": [unknown, (200, {}, b'{"data": [{"id": "claude-haiku-5-5"}]}')],
        "POST": [unknown, unknown, message],
    }
    monkeypatch.setattr(live_check, "_call", lambda _settings, method, *_: answers[method].pop(0))
    checked = live_check.check_live(
        load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path)}), "acme", "sk-proxy-acme-x"
    )
    assert (checked.model, checked.input_tokens) == ("claude-haiku-5-5", 9)


def test_a_key_that_no_gateway_knows_in_time_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "GET": (200, {}, b'{"data": [{"id": "claude-haiku-5-5"}]}'),
        "POST": (401, {}, b'{"error": {"message": "Invalid gateway API key."}}'),
    }
    monkeypatch.setattr(live_check, "KEY_SECONDS_MAX", 0.0)
    monkeypatch.setattr(live_check, "_call", lambda _settings, method, *_: answers[method])
    with pytest.raises(live_check.LiveCheckFailed, match="401: Invalid gateway API key"):
        live_check.check_live(load_settings(None, {"TENANTRY_DATA_DIR": str(tmp_path)}), "acme", "sk-proxy-acme-x")
