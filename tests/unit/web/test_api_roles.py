"""Every operation of the admin API, asked by every role: for its own tenant, for another's, for nobody's."""

import hashlib
import random
from collections.abc import Iterator

import pytest
from sqlalchemy import select

from tenantry.domain.roles import ALLOWED, OF_ONE_TENANT, Permission, Role
from tenantry.storage.all_tables import ALL_TABLES
from tenantry.web.api.operations import Operation
from tenantry.web.api.routes import OPERATIONS
from tests.template import KeptStore
from tests.unit.web.api_asks import Ask, asks, prepare, prepare_cluster
from tests.unit.web.api_site import OWNER, Answer, Served, served

REFUSED = (401, 403, 404)
# They ask others than the store: an upstream that is not there, this machine.
SLOW = ("check", "test_alert_target", "examine_site", "start_backup", "start_ledger_verification")
# All of each table, but not when somebody was last here, which is noted once a minute.
READ = {
    table: select(*(one for one in table.c if (table.name, one.name) != ("admin_users", "used_at")))
    for table in ALL_TABLES.sorted_tables
}


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """With tokens of each role: of all the site (`viewer`), and of acme alone (`viewer of acme`)."""
    with served(tmp_path_factory.mktemp("roles")) as made:
        prepare(made)
        prepare_cluster(made)
        for role in Role:
            made.tokens[role.value] = made.site.directory.create_admin(f"all-{role}", None, role)
            made.tokens[f"{role} of acme"] = made.site.directory.create_admin(f"acme-{role}", None, role, ["acme"])
        for token in made.tokens.values():
            made.ask("GET", "/whoami", token=token)  # that it was used is noted once a minute
        made.site.engine.dispose()
        yield made


def sent(api: Served, one: Operation, ask: Ask, slug: str, token: str | None) -> Answer:
    path = one.path.replace(":path}", "}").format(**({"slug": slug} | (ask.path or {})))
    query = f"?{ask.query}" if ask.query else ""
    return api.ask(one.method, path + query, ask.body, token, ask.fields, ask.data)


def state_of(api: Served) -> str:
    """A hash of all that the store holds."""
    with api.site.engine.connect() as store:
        lines = [f"{table.name} {row}" for table, query in READ.items() for row in store.execute(query)]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@pytest.fixture(scope="module")
def kept(api: Served, tmp_path_factory: pytest.TempPathFactory) -> KeptStore:
    api.site.engine.dispose()
    return KeptStore(api.site.settings.data_dir, tmp_path_factory.mktemp("kept"))


@pytest.mark.parametrize("one", OPERATIONS, ids=lambda one: one.name)
def test_who_may_not_is_refused_and_changes_nothing(api: Served, one: Operation) -> None:
    ask = asks(api).get(one.name, Ask())
    before = state_of(api)
    is_of_one = "slug" in one.path
    assert sent(api, one, ask, "acme", None).status == 401
    for role in Role:
        is_allowed = one.permission in ALLOWED[role]
        if not is_allowed:
            answer = sent(api, one, ask, "acme", api.tokens[role])
            words = f"all-{role} is {role} and may not: {one.permission}"
            assert (answer.status, answer.document["detail"]) == (403, words)
        confined = api.tokens[f"{role} of acme"]
        if not is_allowed or one.of_site or one.permission not in OF_ONE_TENANT:
            answer = sent(api, one, ask, "acme", confined)
            assert (answer.status, "may not" in answer.document["detail"]) == (403, True), role
        if is_of_one:
            foreign, missing = (sent(api, one, ask, slug, confined) for slug in ("globex", "nobody"))
            assert foreign.status == missing.status == 404, role
            assert foreign.body.replace(b"globex", b"nobody") == missing.body
    assert state_of(api) == before
    if is_of_one:
        assert sent(api, one, ask, "nobody", OWNER).status in (404, 422), "nobody's, for an owner"


@pytest.mark.parametrize("one", [one for one in OPERATIONS if one.name not in SLOW], ids=lambda one: one.name)
def test_who_may_is_answered(api: Served, kept: KeptStore, one: Operation) -> None:
    ask = asks(api).get(one.name, Ask())
    roles = [role for role in Role if one.permission in ALLOWED[role]]
    tokens = [api.tokens[role] for role in roles]
    if one.permission in OF_ONE_TENANT and not one.of_site:
        tokens += [api.tokens[f"{role} of acme"] for role in roles]
    try:
        for token in random.sample(tokens, min(2, len(tokens))):
            answer = sent(api, one, ask, "acme", token)
            assert answer.status == (ask.status or one.status), answer.body
            if one.is_write:
                api.site.engine.dispose()
                kept.bring_back()
    finally:
        api.site.engine.dispose()
        kept.bring_back()


def test_every_operation_has_a_request_that_works() -> None:
    assert len({one.name for one in OPERATIONS}) == len(OPERATIONS)


def test_what_is_of_the_whole_site_is_for_nobody_who_has_some_tenants_alone() -> None:
    """Beside the declarations, as below."""
    whole = {"admin-tokens", "audit", "backups", "cells", "controls", "credentials", "declaration", "doctor"}
    whole |= {"gateways", "health", "margin", "people", "proofs", "site", "tasks", "upstreams"}
    found = [one for one in OPERATIONS if one.path.split("/")[1] in whole]
    assert {one.path.split("/")[1] for one in found} == whole
    assert [one.name for one in found if one.permission in OF_ONE_TENANT and not one.of_site] == []


def test_what_changes_anything_needs_more_than_to_look() -> None:
    """Beside the declarations, which a test of roles would follow whatever they said."""
    looks = {one.name for one in OPERATIONS if one.is_write and one.permission.endswith(".read")}
    assert looks == {"plan_declaration", "find_declaration_drift"}
    wanted = {
        "keys": Permission.KEYS_CHANGE,
        "credential": Permission.CREDENTIALS_CHANGE,
        "credentials": Permission.CREDENTIALS_CHANGE,
        "fallback": Permission.CREDENTIALS_CHANGE,
        "budgets": Permission.BUDGETS_CHANGE,
        "tiers": Permission.LIMITS_CHANGE,
        "admin-tokens": Permission.ADMINS_CHANGE,
        "alert-targets": Permission.ALERTS_CHANGE,
        "thresholds": Permission.ALERTS_CHANGE,
        "backups": Permission.BACKUPS_MAKE,
        "gateways": Permission.GATEWAYS_CHANGE,
        "cells": Permission.GATEWAYS_CHANGE,
        "ledger": Permission.LEDGER_CORRECT,
        "invoices": Permission.INVOICES_ISSUE,
        "billing-details": Permission.INVOICES_ISSUE,
        "exports": Permission.EXPORTS_MAKE,
    }
    for one in OPERATIONS:
        for word in set(one.path.split("/")) & set(wanted) if one.is_write else ():
            assert one.permission is wanted[word], one.name


def test_a_file_that_a_client_has_named_runs_nowhere(api: Served) -> None:
    for path in ("/tenants/acme/guide?format=html", "/tenants/acme/fair-use", "/declaration"):
        answer = api.ask("GET", path)
        assert answer.status == 200
        assert answer.fields["content-security-policy"].endswith("; sandbox"), path
        assert answer.fields["content-disposition"].startswith("attachment"), path
