"""The OpenAPI document says what the API does: every route is in it, and what it says holds, whatever is asked."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance
from starlette.routing import Route

from tenantry.domain.roles import ALLOWED, Permission
from tenantry.web.api.openapi import describe
from tenantry.web.api.operations import ROOT, Operation, operation
from tenantry.web.api.routes import OPERATIONS
from tests.unit.web.api_asks import prepare, prepare_cluster
from tests.unit.web.api_site import OWNER, Served, served

DOCUMENT = describe(OPERATIONS)
# So many requests for each operation; `make test` has few, a night may have more.
EXAMPLES = int(os.environ.get("TENANTRY_API_EXAMPLES", "4"))
SEED = int(os.environ.get("TENANTRY_API_SEED", "20261129"))
# That nobody is let in without a token, and what is let through, the matrix of roles shows. A value may be right by its
# schema and wrong by what it means, such as a cursor that somebody made up.
NOT_ASKED = [ignored_auth, positive_data_acceptance]
# They begin processes, or ask upstreams that are not there.
LEFT_OUT = ("start_proof", "start_backup", "start_ledger_verification", "check", "test_alert_target", "examine_site")


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("document")) as made:
        prepare(made)
        prepare_cluster(made)
        yield made


def test_the_document_is_served_to_everybody_and_holds_every_route_and_no_other(api: Served) -> None:
    answer = api.ask("GET", "/openapi.json", token=None)
    assert (answer.status, answer.document) == (200, DOCUMENT)
    assert api.ask("GET", "/openapi.json", token=None, fields={"if-none-match": answer.fields["etag"]}).status == 304
    routes = {
        (method, route.path.replace(":path}", "}"))
        for route in api.app.routes
        if isinstance(route, Route) and route.path.startswith(ROOT) and route.name != "endpoint"
        for method in route.methods or ()
        if method != "HEAD"
    }
    told = {(method.upper(), ROOT + path) for path, some in DOCUMENT["paths"].items() for method in some}
    assert told == routes - {("GET", f"{ROOT}/openapi.json")}


def test_each_operation_tells_its_permission_its_roles_and_every_name_once() -> None:
    names: list[str] = []
    for one in OPERATIONS:
        told = DOCUMENT["paths"][one.path.replace(":path}", "}")][one.method.lower()]
        names.append(told["operationId"])
        roles = ", ".join(role for role, allowed in ALLOWED.items() if one.permission in allowed)
        assert told["x-permission"] == one.permission
        assert f"Permission `{one.permission}`: {roles}." in told["description"]
        assert told["summary"].endswith(".")
        assert len(told["summary"]) > 10
        assert {"400", "401", "403"} <= told["responses"].keys()
    assert len(set(names)) == len(names)
    assert DOCUMENT["openapi"] == "3.1.0"


def test_what_could_not_be_guarded_does_not_come_to_be() -> None:
    def act(call: object) -> None:
        """Does something."""

    with pytest.raises(TypeError, match="changes something of a tenant, and its path names none"):
        operation("POST", "/keys", Permission.KEYS_CHANGE)(act)
    with pytest.raises(TypeError, match="where its path has"):
        operation("GET", "/tenants/{slug}", Permission.TENANTS_READ)(act)
    act.__doc__ = None
    with pytest.raises(TypeError, match="says nothing of itself"):
        operation("GET", "/x", Permission.SITE_READ)(act)
    with pytest.raises(TypeError):
        operation("GET", "/x")(act)  # pyright: ignore[reportCallIssue] -- without a permission


@schemathesis.serializer("application/toml")
def toml(_context: object, value: Any) -> bytes:
    """A file of tenants that is any text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
CHOSEN = [one for one in OPERATIONS if one.name not in LEFT_OUT]


@pytest.mark.parametrize("one", CHOSEN, ids=lambda one: one.name)
def test_what_is_promised_is_kept_whatever_is_asked(api: Served, one: Operation) -> None:
    path = one.path.replace(":path}", "}")
    found = SCHEMA[path][one.method]

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=found.as_strategy())
    def holds(case: Any) -> None:
        case.operation.app = api.app
        response = case.call(
            headers={"authorization": f"Bearer {OWNER}", "host": "localhost"},
            base_url=f"http://localhost{ROOT}",
            app=api.app,
        )
        case.validate_response(response, excluded_checks=NOT_ASKED)

    holds()
