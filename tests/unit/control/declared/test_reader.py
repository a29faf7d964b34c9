"""A file of tenants is read strictly: everything wrong at once, each with its line and what was meant."""

from __future__ import annotations

import json
import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.control.declared.model import BadDeclaration, Declaration
from tenantry.control.declared.positions import find_lines
from tenantry.control.declared.reader import find_files, read_documents, read_files
from tenantry.control.declared.references import References, SecretUnavailable
from tenantry.control.declared.schema import json_schema
from tenantry.control.toml_out import write_toml
from tests.unit.control.declared.sites import ACME

UTC_ZONE = ZoneInfo("UTC")


def read(folder: Path, text: str, zone: ZoneInfo = UTC_ZONE) -> Declaration:
    file = folder / "tenants.toml"
    file.write_text(text, "utf-8")
    return read_files([file], zone)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(BadDeclaration) as caught:
        read(folder, text)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


def test_a_full_block_is_read(tmp_path: Path) -> None:
    declared = read(tmp_path, ACME)
    acme = declared.tenants["acme"]
    assert (acme.name, acme.tier, acme.plan, acme.month_nanos) == ("Acme GmbH", "gold", "studio", 50 * 10**9)
    assert acme.keys is not None
    assert acme.keys["production"].expires_at == datetime(2099, 2, 1, tzinfo=UTC)
    assert acme.keys["production"].limits == {"requests_per_minute": 30}
    assert declared.plans["studio"].markup_percent == "20"
    assert declared.tiers["gold"].sessions_max == 20


def test_a_shipped_tier_keeps_its_sessions_when_something_else_is_declared(tmp_path: Path) -> None:
    declared = read(tmp_path, "[tiers.premium]\nrequests_per_minute = 90\n")
    assert declared.tiers["premium"].sessions_max == 15


def test_a_day_ends_in_the_time_zone_of_the_agency(tmp_path: Path) -> None:
    text = '[tenants.a]\nname = "A"\n[tenants.a.keys.x]\nexpires = 2027-01-31\n'
    keys = read(tmp_path, text, ZoneInfo("Europe/Berlin")).tenants["a"].keys
    assert keys is not None
    assert keys["x"].expires_at == datetime(2027, 1, 31, 23, tzinfo=UTC)


def test_every_mistake_comes_at_once_with_line_and_suggestion(tmp_path: Path) -> None:
    text = """# a comment
[tennants.x]
name = "X"
[tenants.acme]
teir = "premium"
status = "of"
credential = "sk-ant-api03-canary-pasted"
shared_credential = "yes"
limits = { requests_per_minute = "many", sesions_max = 3 }
[tenants.acme.budget]
month_usd = 50.0
day_usd = "0"
[tenants.acme.keys.production]
expires = "soon"
rotate_days = 0
limits = { weight = 3 }
[tenants."Bad Name"]
name = ""
[plans.studio]
fee_usd = "-1"
markup_percent = "lots"
"""
    found = problems(tmp_path, text)
    for start in (
        "tenants.toml:2: the file has no field 'tennants'; did you mean 'tenants'?",
        "tenants.toml:4: tenants.acme needs a name",
        "tenants.toml:5: tenants.acme has no field 'teir'; did you mean 'tier'?",
        "tenants.toml:6: tenants.acme.status must be 'active' or 'disabled'",
        "tenants.toml:7: tenants.acme.credential must be 'env:NAME'",
        "tenants.toml:8: tenants.acme.shared_credential must be true or false",
        "tenants.toml:9: tenants.acme.limits has no field 'sesions_max'; did you mean 'sessions_max'?",
        "tenants.toml:9: tenants.acme.limits: requests_per_minute must be a whole number",
        "tenants.toml:11: tenants.acme.budget.month_usd must be written in quotes",
        "tenants.toml:12: tenants.acme.budget.day_usd must be an amount of dollars above 0",
        "tenants.toml:14: tenants.acme.keys.production.expires must be a date",
        "tenants.toml:15: tenants.acme.keys.production.rotate_days must be a whole number",
        "tenants.toml:16: tenants.acme.keys.production.limits has no field 'weight'",
        "tenants.toml:17: 'Bad Name' is not a name",
        'tenants.toml:18: tenants."Bad Name".name must be a text',
        "tenants.toml:20: plans.studio.fee_usd must be an amount of dollars",
        "tenants.toml:21: plans.studio.markup_percent must be a percentage",
    ):
        assert any(one.startswith(start) for one in found), start
    assert len(found) == 17
    assert "canary" not in "\n".join(found)


@pytest.mark.parametrize(
    "text",
    [
        "tenants = 3",
        "[tenants]\nacme = 3",
        "[[tenants.acme]]\nname = 'x'",
        "[tenants.acme]\nname = 'x'\nkeys = 3",
        "[tenants.acme]\nname = 'x'\nkeys = { a = 3 }",
        "[tenants.acme]\nname = 'x'\n[tenants.acme]\nname = 'y'",
        "[tenants.acme",
        "a = " + "[" * 5000,
        "\x00",
        "[tenants.acme]\nname = 'x'\nalerts = { thresholds = [100, 70] }",
        "[tenants.acme]\nname = 'x'\nalerts = { targets = ['https://hooks.example/secret'] }",
        "[tenants.acme]\nname = 'x'\n[tenants.acme.keys.a]\nexpires = 2027-01-31T10:00:00",
        "[tenants.acme]\nname = 'x'\n[tenants.acme.keys.a]\nexpires = 9999-12-31",
        *(
            f"[tenants.acme]\nname = 'x'\n[tenants.acme.keys.a]\nexpires = {expires}"
            for expires in ("0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00", '"9999-12-30"')
        ),
        "[tenants.acme]\nname = 'x'\nlimits = { weight = " + "[" * 300 + "]" * 300 + " }",
        "[tenants.acme]\nname = 'x'\n[tenants.acme.limits]\nx = " + "{ a = " * 60 + "1" + " }" * 60,
        "a" + ".a" * 100_000 + " = 1",
        "[a" + ' . "a"' * 100_000 + "]",
        "x = { a" + ".'a'" * 100_000 + " = 1 }",
    ],
    ids=range(22),
)
def test_malformed_files_are_problems_and_never_tracebacks(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


@pytest.mark.parametrize("amount", ["1e3", "1_000", "１０", "٣", "+5", " 5", "5.", ".5", "1,5", "5.0000000001", "NaN"])
def test_money_is_a_plain_decimal_and_nothing_that_python_would_read_besides(tmp_path: Path, amount: str) -> None:
    text = f"[plans.p]\nfee_usd = '{amount}'\nmarkup_percent = '{amount.replace('5', '50')}'\n"
    text += f"[tenants.acme]\nname = 'x'\nbudget = {{ month_usd = '{amount}' }}\n"
    found = problems(tmp_path, text)
    assert any("fee_usd must be an amount of dollars" in one for one in found)
    assert any("month_usd must be an amount of dollars" in one for one in found)
    assert any("markup_percent must be a percentage" in one for one in found) or amount == "5.0000000001"


def test_an_empty_list_of_patterns_is_refused_and_the_message_says_what_to_write(tmp_path: Path) -> None:
    text = "[tenants.acme]\nname = 'x'\nlimits = { models = [], server_tools = [] }\n"
    text += "[tenants.acme.keys.a]\nlimits = { models = [] }\n[tiers.gold]\nspeeds = []\n"
    found = problems(tmp_path, text)
    assert len(found) == 4
    assert all('names nothing, and would allow everything: write ["*"] for that' in one for one in found)
    assert [one for one in found if '["-"] for not any' in one] == [one for one in found if "server_tools" in one]
    file = tmp_path / "tenants.toml"
    file.write_text(text.replace("[]", "['*']"))
    declared = read_files([file], ZoneInfo("UTC"))
    assert declared.tenants["acme"].limits == {"models": (), "server_tools": ()}


def test_a_pipe_in_the_place_of_a_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "tenants.toml"
    os.mkfifo(pipe)
    with pytest.raises(BadDeclaration, match="it is not a regular file"):
        read_files([pipe], ZoneInfo("UTC"))
    with pytest.raises(SecretUnavailable, match="it is not a regular file"):
        References({}).get(f"file:{pipe}")


def test_a_name_declared_in_two_files_names_both_places(tmp_path: Path) -> None:
    for name in ("a.toml", "b.toml"):
        (tmp_path / name).write_text("\n[tenants.acme]\nname = 'x'\n")
    with pytest.raises(BadDeclaration) as caught:
        read_files(find_files([tmp_path], tmp_path), UTC_ZONE)
    assert str(caught.value).endswith(f"b.toml:2: tenant 'acme' is declared already in {tmp_path}/a.toml, line 2")


def test_default_files_are_the_file_and_the_folder(tmp_path: Path) -> None:
    with pytest.raises(BadDeclaration, match="tenants export"):
        find_files([], tmp_path)
    (tmp_path / "tenants.toml").touch()
    (tmp_path / "tenants.d").mkdir()
    for name in ("b.toml", "a.toml", "notes.txt"):
        (tmp_path / "tenants.d" / name).touch()
    assert [path.name for path in find_files([], tmp_path)] == ["tenants.toml", "a.toml", "b.toml"]


def test_bytes_that_are_no_text_and_missing_files_are_problems(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(BadDeclaration) as caught:
        read_files([tmp_path / "x.toml", tmp_path / "missing.toml"], UTC_ZONE)
    assert len(caught.value.problems) == 2


def test_documents_read_again_are_the_same_declaration(tmp_path: Path) -> None:
    declared = read(tmp_path, ACME)
    again = read_documents(json.loads(json.dumps(declared.documents, default=str)), UTC_ZONE)
    assert (again.tiers, again.plans, again.tenants) == (declared.tiers, declared.plans, declared.tenants)


def test_lines_are_found_in_every_form_of_toml() -> None:
    text = (
        'a.b = 1 # [x]\n"q.r" = """\n[no]\nc = 1""""\n[t.\'u v\']\nx = [ # ]\n  "]",\n  { y = "}" },\n]\n'
        "d = 1979-05-27T07:32:00Z\ne = { f = { g = 1 } }\n[[arr]]\nz = '''\n'''\n[end]\r\nlast=true"
    )
    tomllib.loads(text)
    lines = find_lines(text)
    assert lines[("a",)] == lines[("a", "b")] == 1
    assert lines[("q.r",)] == 2
    assert lines[("t", "u v")] == 5
    assert lines[("t", "u v", "x")] == 6
    assert lines[("t", "u v", "d")] == 10
    assert lines[("t", "u v", "e", "f", "g")] == 11
    assert lines[("arr", "z")] == 13
    assert lines[("end",)] == 15
    assert lines[("end", "last")] == 16


values = st.recursive(
    st.one_of(st.integers(-(2**60), 2**60), st.booleans(), st.text(max_size=8), st.datetimes(timezones=st.just(UTC))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=6), values, max_size=4))
def test_every_table_and_value_of_any_document_has_a_line(document: dict[str, object]) -> None:
    text = write_toml(document)
    lines = find_lines(text)

    def require(path: tuple[str, ...], value: object) -> None:
        if isinstance(value, dict):
            for name, one in value.items():
                require((*path, name), one)
        elif path:
            assert 1 <= lines[path] <= text.count("\n") + 1

    require((), document)


def _names(schema: dict[str, object], path: tuple[str, ...]) -> set[str]:
    at: object = schema
    for step in path:
        assert isinstance(at, dict)
        at = next(iter(at["patternProperties"].values())) if step == "*" else at["properties"][step]
    assert isinstance(at, dict)
    return set(at["properties"])


def test_the_schema_for_editors_is_the_one_in_the_docs() -> None:
    kept = json.loads((Path(__file__).parents[4] / "docs" / "tenants.schema.json").read_text())
    assert kept == json_schema(), "write it again: tenantry tenants schema > docs/tenants.schema.json"


def test_the_schema_knows_the_fields_that_the_reader_knows(tmp_path: Path) -> None:
    schema = json_schema()
    for path, table in (
        (("tenants", "*"), "tenants.acme"),
        (("tenants", "*", "budget"), "tenants.acme.budget"),
        (("tenants", "*", "alerts"), "tenants.acme.alerts"),
        (("tenants", "*", "limits"), "tenants.acme.limits"),
        (("tenants", "*", "keys", "*"), "tenants.acme.keys.x"),
        (("plans", "*"), "plans.x"),
        (("tiers", "*"), "tiers.x"),
    ):
        found = problems(tmp_path, f"[{table}]\nzzzzzzzzzz = 1\n")
        told = next(one for one in found if "zzzzzzzzzz" in one).partition("it may have: ")[2]
        assert set(told.split(", ")) == _names(schema, path)


def test_hosts_are_read_into_the_one_form_of_each(tmp_path: Path) -> None:
    assert read(tmp_path, ACME).tenants["acme"].hosts == ("ai.acme.example", "ki.xn--mller-kva.example")
    told = problems(tmp_path, '[tenants.a]\nname = "A"\nhosts = ["*.a.example"]\n')
    assert told[0].startswith("tenants.toml:3: tenants.a.hosts holds '*.a.example', which must be a host name such as ")
    twice = problems(tmp_path, '[tenants.a]\nname = "A"\nhosts = ["a.example", "A.example."]\n')
    assert twice == ["tenants.toml:3: tenants.a.hosts must have at most 100 names, each of them once"]
    assert "must be a list" in problems(tmp_path, '[tenants.a]\nname = "A"\nhosts = "a.example"\n')[0]
