"""What models cost: today's prices, their days, a new one, and what it changes of what was booked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tenantry.control.pricing import (
    SetPriceView,
    completed,
    price_changes,
    price_list,
    price_table,
    prices_of,
    rule_of,
    set_price,
    terms_at,
)
from tenantry.control.recomputing import RECOMPUTATION, REFUSED, recomputing_work
from tenantry.control.site import Site
from tenantry.control.tasks import TaskRunning
from tenantry.domain.price_terms import TOKEN_CLASSES, BadPriceTable, as_document, read_terms, start_of
from tenantry.domain.roles import Permission, Principal
from tenantry.ledger.usage import BadMonth, attempts_since, unpriced_models
from tenantry.storage.directory import DirectoryError, NotInDirectory
from tenantry.storage.prices import NO_RULE, SAME_FAMILY
from tenantry.web.pages.marks import plural
from tenantry.web.pages.showing import query, require_whole_site, seen_scope, show
from tenantry.web.pages.working import begin, last
from tenantry.web.pages_base.forms import posted
from tenantry.web.pages_base.rendering import see_other
from tenantry.web.pages_base.words import sentence
from tenantry.web.signin.sessions import acting
from tenantry.web.tokens import site_of

_FIELDS: Final = ("model", *TOKEN_CLASSES, "fast", "from", "source", "sure")
# As people say them.
CLASSES: Final[Mapping[str, str]] = dict(
    zip(TOKEN_CLASSES, ("Input", "Cache write, 5 min", "Cache write, 1 h", "Cache read", "Output"), strict=True)
)
_ANY_MODEL: Final = "model"
_SOURCE_CHARS_MAX: Final = 200


def list_prices(request: Request, principal: Principal) -> Response:
    site = site_of(request)
    return show(
        request,
        principal,
        "prices",
        prices=price_list(site),
        classes=CLASSES,
        history=price_changes(site)[::-1],
        may_change=principal.may(Permission.PRICES_CHANGE),
        may_correct=principal.may(Permission.LEDGER_CORRECT),
    )


def show_model(request: Request, principal: Principal) -> Response:
    site, model = site_of(request), str(request.path_params["name"])
    try:
        found = prices_of(site, model)
    except NotInDirectory as error:
        raise HTTPException(404, str(error)) from None
    return show(
        request,
        principal,
        "price",
        found=found,
        classes=CLASSES,
        history=price_changes(site, model)[::-1],
        may_change=principal.may(Permission.PRICES_CHANGE),
    )


def ask_price(request: Request, principal: Principal) -> Response:
    return _form(request, principal, {**query(request, *_FIELDS), "sure": ""}, {})


def _form(request: Request, principal: Principal, typed: Mapping[str, str], problems: Mapping[str, str]) -> Response:
    """What is empty stays as it is, or follows from the input: the fields say what that is now."""
    site = site_of(request)
    before = terms_at(price_table(site), typed["model"], datetime.now(UTC))
    waiting = [one["model"] for one in unpriced_models(site.engine)]
    return show(
        request,
        principal,
        "price_new",
        422 if problems else 200,
        typed=typed,
        problems=problems,
        now=as_document(before) if before is not None else {},
        classes=CLASSES,
        waiting=waiting,
        today=datetime.now(UTC).date(),
    )


def add_price(request: Request, principal: Principal) -> Response:
    require_whole_site(principal)
    site, form = replace(site_of(request), directory=acting(request, principal)), posted(request)
    typed = {name: form.get(name) for name in _FIELDS}
    day, problems = _read(typed)
    if problems or day is None:
        return _form(request, principal, typed, problems)
    model, table = typed["model"], price_table(site)
    before = terms_at(table, model, start_of(day))
    try:
        terms = completed(model, _given(typed), typed["fast"] or None, before, lambda name: CLASSES.get(name, name))
    except BadPriceTable as error:
        return _form(request, principal, typed, {"form": _sentence(error, model)})
    if day < datetime.now(UTC).date() and not typed["sure"]:
        return _form(request, principal, typed, {"sure": _past(site, model, day)})
    try:
        now = set_price(site, model, day, terms, typed["source"])
    except DirectoryError as error:
        return _form(request, principal, typed, {"form": _sentence(error, model)})
    if not now.is_new:
        return see_other(f"/prices/{model}", f"{model} costs that already.")
    return _after(now, since_ever=before is None and table.of(model) is None)


def _given(typed: Mapping[str, str]) -> dict[str, str | None]:
    return {name: typed[name].lstrip("$") or None for name in TOKEN_CLASSES}


def _read(typed: Mapping[str, str]) -> tuple[date | None, dict[str, str]]:
    """The day, and what is wrong with each field by itself."""
    problems: dict[str, str] = {}
    plain: dict[str, str] = dict.fromkeys(CLASSES, "1")
    for name, text in _given(typed).items():
        try:
            read_terms(_ANY_MODEL, plain | ({name: text} if text is not None else {}))
        except BadPriceTable as error:
            problems[name] = _sentence(error, _ANY_MODEL, name)
    try:
        read_terms(typed["model"], plain)
    except BadPriceTable as error:
        problems["model"] = _sentence(error, typed["model"])
    if typed["fast"] not in ("", "none"):
        try:
            read_terms(_ANY_MODEL, plain | {"fast_multiplier": typed["fast"]})
        except BadPriceTable:
            problems["fast"] = "A factor such as 2, or none."
    if not typed["fast"] and not any(_given(typed).values()):
        problems["input"] = "Say what to set, such as input and output."
    if len(typed["source"]) > _SOURCE_CHARS_MAX or not typed["source"].isprintable():
        problems["source"] = f"One line of {_SOURCE_CHARS_MAX} characters at most."
    try:
        return (date.fromisoformat(typed["from"]) if typed["from"] else datetime.now(UTC).date()), problems
    except ValueError:
        return None, problems | {"from": "A day such as 2026-12-01."}


def _sentence(error: Exception, model: str, field: str = "") -> str:
    text = str(error).removeprefix(f"{model}: ").replace(field or "\0", "it")
    return sentence(text)


def _past(site: Site, model: str, day: date) -> str:
    count = attempts_since(site.engine, model, int(start_of(day).timestamp()) * 1_000_000)
    return f"That day is past: {plural(count, 'attempt')} since then stay as they were booked until you recompute them."


def _after(now: SetPriceView, since_ever: bool) -> Response:
    """To what was booked before, where there is any; else to the price. `since_ever`: it is the model's first."""
    when = ", for what it was used for before, too" if since_ever else f" from {now.from_day} on"
    words = f"{now.model} costs ${now.terms['input']} in and ${now.terms['output']} out per million{when}."
    if now.unpriced:
        return see_other(
            "/recompute", f"{words} {plural(now.unpriced, 'attempt')} had no price: see what they cost, and book it."
        )
    if now.booked:
        return see_other(
            "/recompute", f"{words} {plural(now.booked, 'attempt')} since then were booked as prices were."
        )
    return see_other(f"/prices/{now.model}", words)


def set_rule(request: Request, principal: Principal) -> Response:
    """What a model without a price is taken at."""
    require_whole_site(principal)
    site, rule = site_of(request), posted(request).get("rule")
    before = rule_of(price_table(site))
    if rule not in (SAME_FAMILY, NO_RULE):
        raise HTTPException(400, f"a rule is {SAME_FAMILY} or {NO_RULE}")
    if rule != before:
        acting(request, principal).set_price_rule(rule, before)
    return see_other("/prices#without", "The rule is set; gateways follow within a second.")


def show_recomputation(request: Request, principal: Principal) -> Response:
    return _recomputation(request, principal, "recompute", query(request, "tenant", "month"), {})


def show_progress(request: Request, principal: Principal) -> Response:
    """The part that changes, for htmx."""
    return _recomputation(request, principal, "recompute_result", {}, {})


def _recomputation(
    request: Request, principal: Principal, template: str, typed: Mapping[str, str], problems: Mapping[str, str]
) -> Response:
    site, task = site_of(request), last(request, RECOMPUTATION)
    result: dict[str, Any] | None = task.result if task is not None else None
    return show(
        request,
        principal,
        template,
        422 if problems else 200,
        task=task,
        result=result,
        # What other prices would change is no news any more.
        is_old=result is not None and result["version"] != price_table(site).version,
        tenants=sorted(seen_scope(request, principal).tenants),
        typed=typed,
        problems=problems,
    )


def recompute(request: Request, principal: Principal) -> Response:
    """With `version` the differences are booked at the prices that were looked at."""
    form = posted(request)
    typed = {name: form.get(name) for name in ("tenant", "month")}
    site = replace(site_of(request), directory=acting(request, principal))
    try:
        work = recomputing_work(site, typed["tenant"], typed["month"], form.get("version") or None)
        begin(request, RECOMPUTATION, principal.actor, work, REFUSED)
    except BadMonth:
        return _recomputation(request, principal, "recompute", typed, {"month": "A month such as 2026-10."})
    except DirectoryError as error:
        return _recomputation(request, principal, "recompute", typed, {"form": str(error)})
    except TaskRunning:
        return see_other("/recompute", "It is being added up already: this is that one.")
    return see_other("/recompute")
