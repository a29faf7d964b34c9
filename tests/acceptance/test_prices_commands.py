"""Prices by command on a running site: a new model is priced the day it appears."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.stack import Stack, tenantry, wait_for

NEW = "claude-opus-6"


def ask(stack: Stack, key: str, slug: str, model: str, count: int) -> dict[str, Any]:
    """Ask once; the row of it, which is the tenant's `count`th."""
    assert stack.message(key, model=model)[0] == 200
    return wait_for(lambda: len(rows := stack.rows(slug)) >= count and rows[count - 1], what="the row")


def test_a_new_model_is_priced_from_the_command_on_and_what_came_before_is_owed_too(stack: Stack) -> None:
    key = stack.tenant("modern")
    first = ask(stack, key, "modern", NEW, 1)
    assert (first["outcome"], first["cost_nanos"]) == ("unpriced", None)
    listed = json.loads(tenantry(stack, "prices", "list", "--json").stdout)
    assert {k: v for k, v in listed["without_price"][0].items() if k != "why"} == {"model": NEW, "attempts": 1}

    done = tenantry(stack, "prices", "set", NEW, "--input", "5", "--output", "25", "--source", "price page")
    assert done.returncode == 0, done.stderr
    version = json.loads(tenantry(stack, "prices", "list", "--json").stdout)["version"]
    assert f"--price-version {version} --book" in done.stdout
    log = stack.folder / "gateway.log"
    wait_for(lambda: f"prices are those of version {version}" in log.read_text(), what="the gateway hearing of it")
    second = ask(stack, key, "modern", NEW, 2)
    assert (second["outcome"], second["price_version"]) == ("settled", version)
    assert second["cost_nanos"] == 5000 * second["input_tokens"] + 25_000 * second["output_tokens"]

    booked = tenantry(stack, "ledger", "recompute", "--price-version", version, "--tenant", "modern", "--book", "--yes")
    assert "Booked 1 adjustments." in booked.stdout
    third = stack.rows("modern")[2]
    assert third["adjusts"] == first["attempt_id"]
    assert third["cost_nanos"] == 5000 * first["input_tokens"] + 25_000 * first["output_tokens"]
    assert json.loads(tenantry(stack, "prices", "list", "--json").stdout)["without_price"][0]["attempts"] == 0
    history = json.loads(tenantry(stack, "prices", "history", NEW, "--json").stdout)
    assert [(one["version"], one["source"]) for one in history] == [(version, "price page")]
    assert "price.set" in tenantry(stack, "audit").stdout


def test_by_rule_a_new_model_costs_what_its_family_does_and_its_rows_say_that_it_was_assumed(stack: Stack) -> None:
    key = stack.tenant("assuming")
    assert tenantry(stack, "prices", "rule", "same-family").returncode == 0
    version = json.loads(tenantry(stack, "prices", "list", "--json").stdout)["version"]
    log = stack.folder / "gateway.log"
    wait_for(lambda: f"prices are those of version {version}" in log.read_text(), what="the gateway hearing of it")
    found = ask(stack, key, "assuming", "claude-haiku-9", 1)
    assert (found["outcome"], found["price_version"]) == ("settled", f"{version}/provisional")
    assert found["cost_nanos"] == 100 * found["input_tokens"] + 500 * found["output_tokens"]
    assert tenantry(stack, "prices", "rule", "none").returncode == 0


def test_a_file_of_prices_is_set_whole_or_not_at_all(stack: Stack) -> None:
    good = {"input": "1", "cache_write_5m": "1.25", "cache_write_1h": "2", "cache_read": "0.1", "output": "5"}
    file = stack.folder / "prices.json"
    for models, told in (
        ({"claude-a-1": good, "claude-b-1": good | {"output": "1e3"}}, "claude-b-1: output must be"),
        ({}, "has no prices"),
        ([], "is not a price file"),
    ):
        file.write_text(json.dumps({"models": models}))
        done = tenantry(stack, "prices", "import", str(file), "--yes")
        assert done.returncode == 2
        assert told in done.stderr
    for text in ("", "[" * 100_000, "{}", "x"):
        file.write_text(text)
        assert tenantry(stack, "prices", "import", str(file), "--yes").returncode == 2
    for path in (stack.folder, Path("/dev/null"), stack.folder / "absent"):
        assert tenantry(stack, "prices", "import", str(path), "--yes").returncode == 2
    before = json.loads(tenantry(stack, "prices", "list", "--json").stdout)["version"]
    file.write_text(json.dumps({"models": {"claude-a-1": good, "claude-b-1": good | {"output": "6"}}}))
    assert tenantry(stack, "prices", "import", str(file)).returncode == 2  # nobody can answer
    assert json.loads(tenantry(stack, "prices", "list", "--json").stdout)["version"] == before
    assert "Set 2 prices" in tenantry(stack, "prices", "import", str(file), "--yes").stdout
    assert "is what it is already" in tenantry(stack, "prices", "import", str(file), "--yes").stdout
    shown = json.loads(tenantry(stack, "prices", "show", "claude-b-1", "--json").stdout)
    assert [period["output"] for period in shown["periods"]] == ["6"]


def test_what_is_no_price_is_refused_with_its_name_and_nothing_is_set(stack: Stack) -> None:
    before = tenantry(stack, "prices", "history").stdout
    for words, told in (
        (["claude-c-1"], "say what to set"),
        (["claude-c-1", "--input", "5"], "--output is needed"),
        (["claude-c-1", "--input", "1e3", "--output", "5"], "input must be a decimal number"),
        (["claude-c-1", "--input", "5", "--output", "5", "--from", "soon"], "--from must be a day"),
        (["claude-c-1", "--input", "5", "--output", "5", "--from", "2026-01-01"], "Nobody can answer here"),
        (["a b", "--input", "5", "--output", "5"], "not the id of a model"),
        (["claude-haiku-5-5", "--input", "5"], "long prompts"),
        (["claude-sonnet-5-5", "--input", "0.001"], "--cache-write-5m is needed"),
    ):
        done = tenantry(stack, "prices", "set", *words)
        assert (done.returncode, told in done.stderr) == (2, True), (words, done.stderr)
    assert tenantry(stack, "prices", "show", "claude-c-1").returncode == 1
    assert tenantry(stack, "prices", "rule", "dearest").returncode == 2
    assert tenantry(stack, "prices", "history").stdout == before
