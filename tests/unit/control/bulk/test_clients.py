"""Rows of `clients.csv`, as people and spreadsheets write them."""

from pathlib import Path

import pytest

from tenantry.control.bulk.clients import Client, ClientsRefused, Known, choice_of, read_clients

KNOWN = Known(
    tiers=["standard", "premium"],
    credentials={"own": False, "sandbox": True},
    tenants={"taken": "Taken", "there": "There"},
)


def read(tmp_path: Path, data: str | bytes) -> list[Client]:
    path = tmp_path / "clients.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_clients(path, KNOWN)


def problems(tmp_path: Path, data: str | bytes) -> list[str]:
    with pytest.raises(ClientsRefused) as refused:
        read(tmp_path, data)
    return refused.value.problems


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_spreadsheets_file_is_read(tmp_path: Path, delimiter: str, end: str, mark: str) -> None:
    lines = ["Name,Slug,Credential,Month_USD", "Sheet,,vault:sandbox,12.50", ",,,", "Über & Söhne,ueber,vault:sandbox,"]
    found = read(tmp_path, mark + end.join(lines).replace(",", delimiter) + end)
    assert [(one.line, one.slug, one.tier, dict(one.budgets)) for one in found] == [
        (2, "sheet", "standard", {"month": 12_500_000_000}),
        (4, "ueber", "standard", {}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column name is missing"),
        ("name,credential\n", "names no client"),
        ("name,credental\nA,b\n", "did you mean credential?"),
        ("name,colour,credential\n", "there are name, slug"),
        ("name,name,credential\n", "is there twice"),
        ('name,credential\n"A,vault:sandbox\n', "not valid CSV"),
        ("name,credential\nA\x00B,vault:sandbox\n", "name must be a text"),
        ('name,credential\n"A\nB",vault:sandbox\n', "name must be a text"),
        (f"name,credential\n{'A' * 201},vault:sandbox\n", "name must be a text"),
        ("name,credential\nSame A,vault:own\nSame B,vault:own\n", "has the same credential as line 2"),
        ("name,credential,shared\nA,vault:own,yes\nB,vault:own,\n", "has the same credential as line 2"),
        ("name,credential,shared\nA,vault:own,perhaps\n", "yes or no"),
        ("name,slug,credential\nOther,taken,vault:sandbox\n", "give this one another slug"),
        ("name,credential,month_usd\nA,vault:sandbox,1e3\n", "month_usd"),
        ("name,credential,day_usd\nA,vault:sandbox,0\n", "above 0"),
        (b"name,credential\n\xff,vault:sandbox\n", "not UTF-8"),
        (b"x" * (5 << 20), "larger than 4 MiB"),
        ("name,credential\n" + "A,vault:sandbox\n" * 10_001, "more than 10,000 clients"),
    ],
    ids=range(18),
)
def test_a_file_that_is_none_is_told(tmp_path: Path, text: str | bytes, words: str) -> None:
    found = problems(tmp_path, text)
    assert any(words in problem for problem in found), found


def test_a_credential_may_be_shared_when_both_say_so(tmp_path: Path) -> None:
    found = read(tmp_path, "name,credential,shared\nA,vault:own,yes\nB,vault:own,yes\n")
    assert [choice_of(one).shared for one in found] == [True, True]


def test_what_is_there_needs_no_credential_any_more(tmp_path: Path) -> None:
    assert [one.slug for one in read(tmp_path, "name,credential\nThere,env:NOT_SET_ANYWHERE\n")] == ["there"]


def test_a_secret_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_KEY", " sk-ant-api03-DUMMY1 ")
    secret = tmp_path / "key"
    secret.write_text("sk-ant-api03-DUMMY2\n")
    found = read(tmp_path, f"name,credential\nA,env:ACME_KEY\nB,file:{secret}\n")
    assert [choice_of(one).secret for one in found] == ["sk-ant-api03-DUMMY1", "sk-ant-api03-DUMMY2"]
