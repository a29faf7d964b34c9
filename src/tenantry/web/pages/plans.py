"""Plans: what clients pay, and who is on which."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.declared.fields import PLAN_FIELDS, BadField
from tenantry.control.plan_views import plan_views
from tenantry.domain.money import format_usd
from tenantry.domain.plans import EXAMPLE_PLANS, Terms, in_force, on_day
from tenantry.domain.roles import Permission, Principal
from tenantry.storage.directory import DirectoryError, NotInDirectory
from tenantry.storage.records import PlanVersion
from tenantry.web.pages.showing import show
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

# What a form asks for; the rest is the command's: `plans set` takes a file of prices.
ASKED: Final = (
    *("fee_usd", "included_usd", "included_tokens", "overage", "throttle_tier", "markup_percent", "slots"),
    *("extra_slot_usd", "setup_usd", "minimum_usd", "discount_percent", "discount_on", "discount_until"),
    *("trial_days", "service_fee_percent", "changes"),
)
_FLAGS: Final = ("fair_use", "byok", "bill_estimates")
# Asked for where a plan has own prices, which alone bear them. Said as a word: a page that was opened before there were
# any has no field of it, and changes nothing.
_SURCHARGES: Final = "surcharges"
_BORNE: Final = {"yes": "borne", "no": "not borne"}


def list_plans(request: Request, principal: Principal) -> Response:
    directory = site_of(request).directory
    today = directory.today()
    names = directory.list_plans()
    on_it = {one.plan: [on.slug for on in one.tenants] for one in plan_views(directory)}
    return show(
        request,
        principal,
        "plans",
        plans=[(name, terms_on(directory.list_plan_versions(name), today), on_it[name]) for name in names],
        examples=[name for name in EXAMPLE_PLANS if name not in names],
        sees_margins=principal.may(Permission.MARGIN_READ),
        may_change=principal.may(Permission.PLANS_CHANGE),
    )


def terms_on(versions: Any, day: date) -> Terms:
    """The terms that count on a day."""
    found = on_day([one.dated for one in versions], day)
    return (found or versions[-1]).terms


def add_examples(request: Request, principal: Principal) -> Response:
    directory = acting(request, principal)
    there = directory.list_plans()
    made = [name for name in EXAMPLE_PLANS if name not in there]
    for name in made:
        directory.set_plan(name, EXAMPLE_PLANS[name])
    return see_other("/plans", f"There are {' and '.join(made)} now." if made else "They are there already.")


def add_plan(request: Request, principal: Principal) -> Response:
    name, directory = posted(request).get("name"), acting(request, principal)
    if name in directory.list_plans():
        return see_other(f"/plans/{name}", f"There is a plan {name} already.")
    try:
        directory.set_plan(name, Terms())
    except DirectoryError as error:
        return see_other("/plans", str(error))
    return see_other(f"/plans/{name}", f"{name} bills usage at list price; say what else it is to be.")


def show_plan(request: Request, principal: Principal) -> Response:
    return _plan(request, principal, None, {})


def _plan(
    request: Request, principal: Principal, typed: Mapping[str, str] | None, problems: Mapping[str, str]
) -> Response:
    name, directory = str(request.path_params["name"]), site_of(request).directory
    try:
        versions = directory.list_plan_versions(name)
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    if not versions:
        raise HTTPException(404, f"there is no plan {name!r}")
    newest = versions[-1].terms
    return show(
        request,
        principal,
        "plan",
        422 if problems else 200,
        name=name,
        versions=versions,
        states=states_of(versions, directory.today()),
        told=[{key: told_term(key, value) for key, value in one.terms.told().items()} for one in versions],
        asked=[(key, PLAN_FIELDS[key]) for key in ASKED],
        flags=[(key, PLAN_FIELDS[key]) for key in _FLAGS],
        choices={key: field.schema["enum"] for key, field in PLAN_FIELDS.items() if "enum" in field.schema},
        typed=typed or _typed_terms(newest),
        problems=problems,
        has_prices=bool(newest.prices),
        borne=_BORNE,
        may_change=principal.may(Permission.PLANS_CHANGE),
    )


def states_of(versions: Sequence[PlanVersion], today: date) -> list[str]:
    """Of each whether it counts today, is to come, is over, or was replaced before its day by what was set later."""
    changes = [one.dated for one in versions]
    counting, kept = on_day(changes, today), {one.what.version_id for one in in_force(changes)}
    found: list[str] = []
    for one in versions:
        if one is counting:
            found.append("counts today")
        elif one.version_id not in kept:
            found.append("replaced")
        else:
            found.append("to come" if one.dated.first_day > today else "over")
    return found


def told_term(name: str, value: Any) -> str:
    if name.endswith("_nanos"):
        return format_usd(value)
    return json.dumps(value) if isinstance(value, dict) else "none" if value is None else str(value).lower()


def _typed_terms(terms: Terms) -> dict[str, str]:
    return {key: _typed_term(key, terms) for key in (*ASKED, *_FLAGS)} | {_SURCHARGES: _borne(terms), "from": ""}


def _borne(terms: Terms) -> str:
    return "yes" if terms.bears_surcharges else "no"


def _typed_term(name: str, terms: Terms) -> str:
    value = getattr(terms, name.replace("_usd", "_nanos"))
    if name.endswith("_usd"):
        return format_usd(value)[1:].replace(",", "") if value else ""
    if isinstance(value, bool):
        return "yes" if value else ""
    return "" if value in (None, 0, "0") else str(value)


def set_plan(request: Request, principal: Principal) -> Response:
    name, form, directory = str(request.path_params["name"]), posted(request), acting(request, principal)
    typed = {key: form.get(key) for key in (*ASKED, *_FLAGS, "from")}
    stands = directory.list_plan_versions(name)
    if not stands:
        raise HTTPException(404, f"there is no plan {name!r}")
    newest, problems, values = stands[-1].terms, dict[str, str](), dict[str, Any]()
    typed[_SURCHARGES] = form.get(_SURCHARGES) or _borne(newest)
    for key in ASKED:
        if typed[key] == _typed_term(key, newest):
            continue
        try:
            values[key.replace("_usd", "_nanos")] = _read_term(key, typed[key])
        except (BadField, ValueError) as error:
            problems[key] = str(error).replace(" in quotes", "")
    for key in _FLAGS:
        values[key] = bool(typed[key])
    if typed[_SURCHARGES] not in _BORNE:
        problems[_SURCHARGES] = "Borne, or not borne."
    elif newest.prices and typed[_SURCHARGES] != _borne(newest):
        values[_SURCHARGES] = typed[_SURCHARGES] == "yes"
    try:
        from_day = date.fromisoformat(typed["from"]) if typed["from"] else None
    except ValueError:
        from_day, problems["from"] = None, "A day such as 2026-12-01."
    if not problems:
        try:
            directory.set_plan(name, replace(newest, **values), from_day)
        except DirectoryError as error:
            problems["form"] = str(error)
    if problems:
        return _plan(request, principal, typed, problems)
    return see_other(f"/plans/{name}", f"{name} has these terms.")


def _read_term(name: str, text: str) -> Any:
    """What was typed, nothing being what a plan has that says nothing of it. Raises: BadField, ValueError."""
    if not text:
        return getattr(Terms(), name.replace("_usd", "_nanos"))
    kind = PLAN_FIELDS[name].schema.get("type")
    return PLAN_FIELDS[name].read(int(text) if kind == "integer" else text.lstrip("$"))
