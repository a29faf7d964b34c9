"""The file of tenants against the gateway: planned, applied, compared, written. A body is the file itself, as TOML.

References to secrets (`env:`, `file:`) are those of the machine of whoever applies a file. The API reads none: it would
hand the environment and the files of the gateway's machine to whoever has a token. A credential is stored first.
"""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any, Final

from msgspec import Meta

from tenantry.control.declared.applying import apply_plan, probe_new, require_no_left_keys
from tenantry.control.declared.drifting import find_drift
from tenantry.control.declared.exporting import export_tenants
from tenantry.control.declared.planning import Plan, make_plan
from tenantry.control.declared.reader import FILE_BYTES_MAX, read_text
from tenantry.control.declared.references import NoReferences
from tenantry.control.declared.schema import json_schema
from tenantry.control.declared.state import read_standing
from tenantry.control.declared.words import in_words
from tenantry.control.site import endpoint_of
from tenantry.control.views import View
from tenantry.domain.printable import stamp
from tenantry.domain.roles import Permission
from tenantry.domain.values import value
from tenantry.storage.columns import now_utc
from tenantry.web.answers import Refused
from tenantry.web.api.operations import TOML, Blob, Call, Struct, operation
from tenantry.web.api.running import matches

_FILE: Final = "tenants.toml"
FileName = Annotated[str, Meta(min_length=1, max_length=300)]


@value
class ChangeView(View):
    words: str
    action: str
    subject: str


@value
class PlanView(View):
    """`fingerprint` is also the ETag: `apply` wants it in `If-Match`. `missing_secrets` have to be stored first.

    `document` is the whole plan, as `tenantry plan --json` has it.
    """

    fingerprint: str
    directory_version: int
    changes: list[ChangeView]
    money: list[str]
    sessions: list[str]
    missing_secrets: list[str]
    document: dict[str, Any]


class FileQuery(Struct):
    """`name`: what the file is called in what is said of it."""

    name: FileName = _FILE


@operation(
    "POST",
    "/declarations/plan",
    Permission.DECLARATION_READ,
    body_media=TOML,
    body_bytes_max=FILE_BYTES_MAX,
    tagged_by="fingerprint",
    is_atomic=False,
)
def plan_declaration(call: Call, body: bytes, query: FileQuery) -> PlanView:
    """Say what a file of tenants would change, and what that does to money and running requests."""
    return _view(_plan(call, body, query))


def _plan(call: Call, body: bytes, query: FileQuery) -> Plan:
    return make_plan(call.site, read_text(query.name, body, call.site.settings.zone), NoReferences())


def _view(plan: Plan) -> PlanView:
    changes = [ChangeView(in_words(one), one.action, one.subject) for one in plan.changes]
    return PlanView(
        _fingerprint(plan),
        plan.standing.version,
        changes,
        list(plan.money.words()),
        plan.sessions,
        plan.missing,
        json.loads(json.dumps(plan.as_json(), default=_plain)),
    )


def _plain(one: object) -> str:
    """What TOML has and JSON has not."""
    return stamp(one) if isinstance(one, datetime) else str(one)


def _fingerprint(plan: Plan) -> str:
    """Of what would be done to what there is."""
    told = [plan.standing.version, [one.as_json() for one in plan.changes]]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]


class ApplyQuery(FileQuery):
    """`probe`: make a live call for each new tenant."""

    probe: bool = True


@value
class NewKeyView(View):
    """`key` is shown only now."""

    tenant: str
    label: str
    endpoint: str
    key: str


@value
class ProbeView(View):
    tenant: str
    ok: bool
    text: str


@value
class AppliedView(View):
    """`statements`: the names of closing statements, of tenants that left."""

    changes: list[ChangeView]
    keys: list[NewKeyView]
    statements: list[str]
    probes: list[ProbeView]


@operation(
    "POST",
    "/declarations/apply",
    Permission.DECLARATION_APPLY,
    body_media=TOML,
    body_bytes_max=FILE_BYTES_MAX,
    match_required=True,
    is_atomic=False,
)
def apply_declaration(call: Call, body: bytes, query: ApplyQuery) -> AppliedView:
    """Do what was planned, all of it in one transaction, or nothing. `If-Match` is the plan's ETag."""
    require_no_left_keys(call.site)
    plan = _plan(call, body, query)
    if not matches(call.request.headers.get("if-match"), f'"{_fingerprint(plan)}"', weak=False):
        raise Refused(412, "the plan would be another now: plan again, look at it, then apply")
    if not plan.changes:
        return AppliedView([], [], [], [])
    statements = call.site.settings.data_dir / "statements"
    done = apply_plan(call.site, plan, NoReferences(), keys_out=None, statements=statements)
    probes = probe_new(call.site, plan, done.keys, lambda _: None) if query.probe else []
    keys = [
        NewKeyView(one.tenant, one.label, endpoint_of(call.site.settings, one.tenant), one.text) for one in done.keys
    ]
    return AppliedView(
        _view(plan).changes,
        keys,
        [path.name for path in done.statements],
        [ProbeView(one.tenant, one.ok, one.text) for one in probes],
    )


@value
class DifferenceView(View):
    """`undo`: what `apply` would do. `actor`, `at`: who changed it by hand, and when."""

    text: str
    undo: str
    actor: str | None
    origin: str | None
    at: str | None
    action: str | None


@value
class DriftView(View):
    by_hand: list[DifferenceView]
    not_applied: list[DifferenceView]


@operation(
    "POST",
    "/declarations/drift",
    Permission.DECLARATION_READ,
    body_media=TOML,
    body_bytes_max=FILE_BYTES_MAX,
    is_atomic=False,
)
def find_declaration_drift(call: Call, body: bytes, query: FileQuery) -> DriftView:
    """Say what was changed by hand since the last apply, by whom and when."""
    found = [DifferenceView(**one.as_json()) for one in find_drift(_plan(call, body, query), call.site.directory)]
    by_hand = [one for one in found if one.actor is not None]
    return DriftView(by_hand, [one for one in found if one.actor is None])


@operation("GET", "/declaration", Permission.DECLARATION_READ, audited="export", media=(TOML,))
def export_declaration(call: Call) -> Blob:
    """Write all tenants as a file for `plan` and `apply`. There is no secret in it."""
    text = export_tenants(read_standing(call.site.directory), call.site.settings.zone, now_utc())
    return Blob(text.encode(), TOML, _FILE)


@operation("GET", "/declaration-schema", Permission.PLANS_READ)
def show_declaration_schema(call: Call) -> dict[str, Any]:
    """The JSON schema of such a file, for editors."""
    return json_schema()


OPERATIONS: Final = (
    plan_declaration,
    apply_declaration,
    find_declaration_drift,
    export_declaration,
    show_declaration_schema,
)
