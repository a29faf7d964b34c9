"""Ids of others: what is tried on a shared credential."""

import json

from tenantry.control.isolation.borrowed import list_borrowed, list_lent
from tenantry.control.isolation.canaries import ids_of_others

# Reference 1.4 and issue 10: where an id goes into a request.
PLACES = (
    *("thread.previous_message_id", "diagnostics.previous_message_id", "container", "container.skills"),
    *("fallback_credit_token", "file_id of a document", "file_id of a container_upload"),
    *("user_profile_id in the body", "workspace_id in the body", "user_profile_id in the query"),
    *("workspace_id in the query", "anthropic-workspace-id as a header", "anthropic_user_profile_id as a header"),
    "an id that the API has not yet",
)


def test_every_place_of_the_reference_is_tried() -> None:
    assert set(PLACES) <= {one.title for one in list_borrowed()}


def test_the_recording_upstream_would_know_each_id() -> None:
    for one in list_borrowed():
        carried = json.dumps(one.body).encode() + b"\n".join(one.lines) + one.query
        assert len(ids_of_others(carried)) == 1, one.title


def test_what_is_the_callers_own_holds_no_such_id() -> None:
    for one in list_lent():
        assert ids_of_others(json.dumps(one.body).encode()) == ()


def test_a_long_body_is_looked_through_in_no_time() -> None:
    assert ids_of_others(b"x" * 2_000_000) == ()
