"""The route table can be walked: every sample leads back to the route that it is a sample of."""

import re
from collections.abc import Iterator

import pytest

from tenantry.domain.errors import InvalidRequest, NotFound
from tenantry.wire import routes
from tenantry.wire.routes import Kind, PatternRoute, Route, find_target, sample_targets


def test_every_sample_leads_to_its_own_route_with_and_without_a_tenant() -> None:
    samples = list(sample_targets("acme"))
    known = len(routes.ROUTES) + len(routes.PATTERN_ROUTES)
    assert len(samples) == 2 * known
    for number, sample in enumerate(samples):
        found = find_target(sample.method, sample.path)
        assert found.route is sample.route
        assert found.slug == (b"acme" if number >= known else None)


def test_samples_without_a_tenant_are_those_with_one_but_for_the_prefix() -> None:
    plain = [sample.path for sample in sample_targets()]
    assert [sample.path.removeprefix(b"/t/acme") for sample in sample_targets("acme")] == plain * 2


@pytest.fixture
def patterns() -> Iterator[list[PatternRoute]]:
    """The table of patterns, which is as it was afterwards."""
    known = list(routes.PATTERN_ROUTES)
    yield routes.PATTERN_ROUTES
    routes.PATTERN_ROUTES[:] = known


def test_places_are_filled_with_the_ids_given_and_made_up_otherwise(patterns: list[PatternRoute]) -> None:
    route = Route(Kind.MODELS, 0, scopes=("file", "part"))
    shape = re.compile(rb"/v1/files/[a-z_0-9]+/parts/[a-z_0-9]+")
    pattern = PatternRoute(b"GET", shape, "/v1/files/{file}/parts/{part}", route)
    patterns.append(pattern)
    (own,) = [sample for sample in sample_targets(ids={"file": "file_1"}) if sample.route is route]
    assert own.path == b"/v1/files/file_1/parts/part_none"
    assert own.name == "GET /v1/files/{file}/parts/{part}"
    assert find_target(b"GET", own.path).route is route


@pytest.mark.parametrize(
    "path", [b"/v1/models/", b"/v1/models/a/b", b"/v1/models/%2e", b"/v1/models/..", b"/v1/models/sk-proxy-acme-A"]
)
def test_a_path_that_only_resembles_a_pattern_does_not_exist(path: bytes) -> None:
    with pytest.raises(NotFound):
        find_target(b"GET", path)


@pytest.mark.parametrize(
    ("query", "passed"),
    [
        (b"", b""),
        (b"?beta=true", b"?beta=true"),
        (b"?beta=true&key=sk-proxy-acme-A&api-version=1", b"?beta=true"),
        (b"?beta=sk+proxy%20x", b""),
        (b"?beta=sk-proxy-acme-A&limit=5&after_id=x-sk-proxy-acme-A", b"?limit=5"),
        (b"?limit=5&after_id=claude-haiku-5-5", b"?limit=5&after_id=claude-haiku-5-5"),
        (b"?&&=&%62eta=true", b""),
    ],
)
def test_of_a_query_only_what_the_api_knows_goes_upstream(query: bytes, passed: bytes) -> None:
    assert find_target(b"POST", b"/v1/messages" + query).query == passed
    assert find_target(b"POST", b"/t/acme/v1/messages" + query).query == passed


@pytest.mark.parametrize(
    "name",
    [b"workspace_id", b"anthropic-user-profile-id", b"Workspace_ID", b"workspace%5Fid", b"container_id", b"a+_id"],
)
def test_an_id_of_something_upstream_is_refused_in_a_query_by_its_name(name: bytes) -> None:
    with pytest.raises(InvalidRequest, match=r"_id: not accepted in a query"):
        find_target(b"POST", b"/v1/messages?beta=true&" + name + b"=wrkspc_globex")


@pytest.mark.parametrize(
    ("method", "path", "words"),
    [
        (b"POST", b"/v1/messages/batches", "message batches are not offered here yet"),
        (b"GET", b"/v1/messages/batches/msgbatch_1/results", "message batches are not offered here yet"),
        (b"GET", b"/v1/files/file_1/content", "files are not offered here yet"),
        (b"POST", b"/v1/chat/completions", "not OpenAI's: POST /v1/messages"),
        (b"POST", b"/chat/completions", "not OpenAI's: POST /v1/messages"),
        (b"POST", b"/messages", "/v1 is missing before /messages"),
        (b"GET", b"/models/claude-haiku-5-5", "/v1 is missing before /models"),
        (b"GET", b"/v1/messages", "takes POST, not GET"),
        (b"POST", b"/v1/models/claude-haiku-5-5", "takes GET, not POST"),
        (b"GET", b"/v1/organizations/me", "ask your agency"),
    ],
)
def test_of_a_known_path_it_is_said_why_it_is_not_there(method: bytes, path: bytes, words: str) -> None:
    told: set[str] = set()
    for prefix in (b"", b"/t/acme", b"/t/nobody"):
        with pytest.raises(NotFound) as refused:
            find_target(method, prefix + path)
        told.add(refused.value.message)
    (message,) = told
    assert words in message


@pytest.mark.parametrize(
    "path", [b"/v1/nothing", b"/v1/filesystem", b"/", b"//v1/messages", b"/v1/messages/", b"/t/acme"]
)
def test_of_another_path_nothing_is_said(path: bytes) -> None:
    with pytest.raises(NotFound) as refused:
        find_target(b"POST", path)
    assert refused.value.message == "Not found"
