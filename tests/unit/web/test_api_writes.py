"""What changes by the admin API: once under a key, as it was seen, and told by its member where it cannot."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from tenantry.storage.columns import now_utc
from tenantry.storage.tables import kept_answers
from tenantry.web.api import repeats, running
from tests.unit.web.api_site import Answer, Served, served

KEYED = {"idempotency-key": "a-key-of-the-client"}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as made:
        yield made


def keys_of(api: Served) -> int:
    return len(api.site.directory.list_keys("acme"))


def test_the_same_key_and_body_is_done_once_and_answered_alike(api: Served) -> None:
    body = {"label": "for the shop"}
    first = api.ask("POST", "/tenants/acme/keys", body, fields=KEYED)
    again = api.ask("POST", "/tenants/acme/keys", body, fields=KEYED)
    assert (first.status, again.status, keys_of(api)) == (201, 201, 2)
    assert first.body == again.body
    assert (
        first.fields["location"] == again.fields["location"] == f"/api/v1/tenants/acme/keys/{first.document['key_id']}"
    )
    assert ("idempotency-replayed" in first.fields, again.fields["idempotency-replayed"]) == (False, "true")
    with api.site.engine.connect() as connection:  # the key that was shown once lies nowhere in the clear
        (row,) = connection.execute(select(kept_answers)).all()
    assert first.document["key"].encode() not in row.ciphertext + row.wrapped_key + row.asked
    other = api.ask("POST", "/tenants/acme/keys", {"label": "another"}, fields=KEYED)
    assert (other.status, "another request" in other.document["detail"], keys_of(api)) == (409, True, 2)
    elsewhere = api.ask("POST", "/tenants/globex/keys", body, fields=KEYED)
    assert elsewhere.status == 409
    somebody = api.site.directory.create_admin("somebody", None)
    assert (
        api.ask("POST", "/tenants/acme/keys", body, token=somebody, fields=KEYED).document["key"]
        != first.document["key"]
    )


def test_a_key_is_free_again_after_a_day_and_after_a_refusal(api: Served) -> None:
    assert api.ask("POST", "/tenants/acme/keys", {"label": "x" * 150}, fields=KEYED).status == 422
    assert api.ask("POST", "/tenants/acme/keys", {}, fields=KEYED).status == 201
    with api.site.engine.begin() as connection:
        connection.execute(update(kept_answers).values(begun_at=now_utc() - timedelta(hours=24)))
    assert api.ask("POST", "/tenants/acme/keys", {"label": "new"}, fields=KEYED).status == 201
    assert keys_of(api) == 3
    for wrong in ("", "x" * 256, "\x07"):
        assert api.ask("POST", "/tenants/acme/keys", {}, fields={"idempotency-key": wrong}).status == 400


def test_what_is_under_way_is_told_so_and_what_control_died_over_too(api: Served) -> None:
    body, path = {"how": "retry"}, "/ledger/quarantine"
    begun, go_on, answers = threading.Event(), threading.Event(), list[Answer]()
    original = running._act  # pyright: ignore[reportPrivateUsage]

    def slow(*arguments: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "_act", slow)
        thread = threading.Thread(target=lambda: answers.append(api.ask("POST", path, body, fields=KEYED)))
        thread.start()
        assert begun.wait(60)
        meanwhile = api.ask("POST", path, body, fields=KEYED)
        go_on.set()
        thread.join()
    assert (meanwhile.status, meanwhile.fields["retry-after"]) == (409, "2")
    again = api.ask("POST", path, body, fields=KEYED)
    assert (answers[0].status, again.status, again.body) == (200, 200, answers[0].body)
    with api.site.engine.begin() as connection:  # as one that died leaves it
        old = now_utc() - timedelta(seconds=repeats.BEGUN_SECONDS_MAX)
        connection.execute(update(kept_answers).values(begun_at=old, ciphertext=None))
    left = api.ask("POST", path, body, fields=KEYED)
    assert (left.status, "how far it came is not known" in left.document["detail"]) == (409, True)


def test_what_goes_wrong_half_way_leaves_nothing_and_no_answer(api: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(type(api.site.directory), "keep_answer", breaks)
        with pytest.raises(ZeroDivisionError):
            api.ask("POST", "/tenants/acme/keys", {}, fields=KEYED)
    assert keys_of(api) == 1
    assert api.ask("POST", "/tenants/acme/keys", {}, fields=KEYED).status == 201
    assert keys_of(api) == 2


def test_a_change_of_what_was_not_seen_is_412(api: Served) -> None:
    seen = api.ask("GET", "/tenants/acme").fields["etag"]
    changed = api.ask("PATCH", "/tenants/acme", {"contact": "a@acme.example"}, fields={"if-match": seen})
    assert (changed.status, changed.document["contact"]) == (200, "a@acme.example")
    stale = api.ask("PATCH", "/tenants/acme", {"contact": "b@acme.example"}, fields={"if-match": seen})
    assert (stale.status, "read /api/v1/tenants/acme again" in stale.document["detail"]) == (412, True)
    now = changed.fields["etag"]
    assert now == api.ask("GET", "/tenants/acme").fields["etag"]
    assert api.ask("PATCH", "/tenants/acme", {}, fields={"if-match": f"W/{now}"}).status == 412
    assert api.ask("POST", "/tenants/acme/disable", fields={"if-match": f'"x", {now}'}).document["status"] == "disabled"
    assert api.ask("POST", "/tenants/acme/enable", fields={"if-match": "*"}).document["status"] == "active"
    assert api.ask("POST", "/tenants/acme/keys", {}, fields={"if-match": '"x"'}).status == 412


@pytest.mark.parametrize(
    ("path", "body", "member"),
    [
        ("/tenants", {"slug": "Not A Slug", "name": "x"}, "slug"),
        ("/tenants", {"slug": "x"}, "`name`"),
        ("/tenants", {"slug": "x", "name": "x", "tear": "standard"}, "tear"),
        ("/tenants", {"slug": "x", "name": "x", "limits": {"sessions_max": 0}}, "limits.sessions_max"),
        ("/tenants", {"slug": "x", "name": "x", "limits": {"rpm": 5}}, "rpm"),
        ("/tenants/acme/keys", {"limits": {"sessions_max": 500}}, "sessions_max"),
        ("/tenants/acme/budgets/raise", {"by_usd": "much", "until": "2099-01-01"}, "much"),
        ("/tenants/acme/budgets/raise", {"by_usd": "5", "until": "tomorrow"}, "tomorrow"),
        ("/provisions", {"name": "x"}, "credential"),
        ("/plans", {"name": "x", "terms": {"fee_usd": "cheap"}}, "terms.fee_usd"),
        ("/admin-tokens", {"name": "x", "role": "king"}, "role"),
    ],
)
def test_a_member_that_cannot_be_is_422_by_its_name(api: Served, path: str, body: object, member: str) -> None:
    before = api.site.directory.version()
    answer = api.ask("POST", path, body)
    assert (answer.status, member in answer.document["detail"]) == (422, True), answer.body
    assert api.site.directory.version() == before


def test_a_body_has_to_be_json_of_the_size_that_it_may_have(api: Served) -> None:
    path = "/tenants"
    for data, fields, status in (
        (b"{", {}, 400),
        (b'{"slug": "\\ud800", "name": "x"}', {}, 400),
        (b'{"slug": "x", "name": "\\u0000"}', {}, 400),
        (b"slug=x", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b"{}", {"content-type": ""}, 415),
        (b'{"name": "' + b"x" * 1_000_000 + b'"}', {}, 413),
        (b'{"name": "' + b"x" * 1_000_000 + b'"}', {"content-length": "5"}, 413),
    ):
        answer = api.ask("POST", path, data=data, fields=dict(fields))
        assert (answer.status, answer.fields["content-type"]) == (status, "application/problem+json"), data[:40]
    deep = b'{"models": {"claude-x-1": {"input": ' + b"[" * 100_000
    assert api.ask("POST", "/prices", data=deep).status == 400


def test_what_is_there_already_is_409(api: Served) -> None:
    for path, body in (
        ("/tenants", {"slug": "acme", "name": "x"}),
        ("/tiers", {"name": "standard"}),
        ("/plans", {"name": "pro", "terms": {}}),
        ("/admin-tokens", {"name": "owner", "role": "viewer"}),
    ):
        assert api.ask("POST", path, body).status == 409, path


def test_a_plan_is_applied_only_as_it_was_seen_and_no_secret_of_the_machine_is_read(
    api: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    toml = {"content-type": "application/toml"}
    file = api.ask("GET", "/declaration").body
    wanted = file + b'\n[tenants.initech]\nname = "Initech"\ntier = "standard"\n'
    planned = api.ask("POST", "/declarations/plan", data=wanted, fields=dict(toml))
    assert planned.fields["etag"] == f'"{planned.document["fingerprint"]}"'
    assert "initech" in str(planned.document["changes"])
    assert api.ask("POST", "/declarations/apply", data=wanted, fields=dict(toml)).status == 428
    api.site.directory.create_tenant("meanwhile", "x", "standard")
    matched = toml | {"if-match": planned.fields["etag"]}
    assert api.ask("POST", "/declarations/apply?probe=false", data=wanted, fields=matched).status == 412
    wanted += b'\n[tenants.meanwhile]\nname = "x"\ntier = "standard"\n'
    matched = toml | {"if-match": api.ask("POST", "/declarations/plan", data=wanted, fields=dict(toml)).fields["etag"]}
    done = api.ask("POST", "/declarations/apply?probe=false", data=wanted, fields=matched)
    assert (done.status, api.site.directory.has_tenant("initech")) == (200, True), done.body
    (tmp_path / "secret").write_text("sk-ant-api03-" + "f" * 40)
    monkeypatch.setenv("A_KEY", "sk-ant-api03-" + "e" * 40)
    for reference in ("env:A_KEY", f"file:{tmp_path / 'secret'}"):
        asks = wanted.replace(b'name = "Initech"', f'name = "Initech"\ncredential = "{reference}"'.encode())
        planned = api.ask("POST", "/declarations/plan", data=asks, fields=dict(toml))
        assert planned.document["missing_secrets"] == [reference]
        matched = toml | {"if-match": planned.fields["etag"]}
        refused = api.ask("POST", "/declarations/apply", data=asks, fields=matched)
        assert (refused.status, "is not read here" in refused.document["detail"]) == (409, True)
    wrong = api.ask("POST", "/declarations/plan", data=b"[tenants.x]\nnmae = 1\n", fields=dict(toml))
    assert (wrong.status, wrong.document["errors"][0]["line"]) == (422, 2)


def test_billing_details_have_what_e_invoices_need_and_an_address_is_as_it_was_said_last(api: Served) -> None:
    path = "/tenants/acme/billing-details"
    said = {"country": "FR", "vat_category": "AE", "contact": "Ada", "phone": "+33 1", "buyer_reference": "04011000"}
    found = api.ask("PATCH", path, {**said, "address": "Main Street 1\nTown"}).document
    assert {**found, **said, "address": "Main Street 1\nTown"} == found
    found = api.ask("PATCH", path, {"street": "Main Street 1", "postcode": "12345", "city": "Town"}).document
    assert (found["address"], found["postcode"], found["country"]) == (None, "12345", "FR")
    both = api.ask("PATCH", path, {"address": "Main Street 1", "city": "Town"})
    assert (both.status, "not as both" in both.document["detail"]) == (422, True)
    assert api.ask("PATCH", path, {"vat_category": "X"}).status == 422


GIF = "data:image/png;base64,R0lGODlhAQABAAAAACw="


@pytest.mark.parametrize("path", ["/billing-details", "/tenants/acme/billing-details"])
def test_a_logo_is_looked_at_when_it_is_set(api: Served, path: str) -> None:
    """Not first when an invoice is drawn."""
    for logo in (GIF, "data:image/png,x", "data:image/png;base64,***", "data:image/" + "x" * 280_000):
        answer = api.ask("PATCH", path, {"logo": logo})
        assert answer.status == 422, answer.body
        assert "logo" in [one["member"] for one in answer.document["errors"]]
    assert api.ask("GET", path).document["logo"] is False


def test_a_name_with_a_slash_has_a_path(api: Served) -> None:
    made = api.ask("POST", "/alert-targets", {"name": "by/ops", "kind": "webhook", "url": "https://hook.invalid/x"})
    assert made.status == 201
    assert api.ask("DELETE", "/alert-targets/by/ops").status == 204
    assert "other/model has no price" in api.ask("GET", "/prices/other/model").document["detail"]
