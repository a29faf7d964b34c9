"""A LiteLLM proxy's `config.yaml`: what of it has a meaning for a gateway to Claude alone."""

from __future__ import annotations

from datetime import date
from typing import Any, cast

from tenantry.control.importing.checking import checked
from tenantry.control.importing.litellm_clients import TIER, Clients, read_clients
from tenantry.control.importing.litellm_reading import REFERENCE, Reading, rows
from tenantry.control.importing.report import Fate, Imported, Report
from tenantry.control.importing.yaml_lines import read_yaml
from tenantry.control.toml_out import Key
from tenantry.settings import SETTINGS

# LiteLLM limits nobody unless told to; a tier of this gateway must say a number of sessions.
TIER_LIMITS: dict[str, Any] = {"sessions_max": 50, "requests_per_minute": "none", "request_burst": 1000}

# What LiteLLM reads for an Anthropic model that names no key.
DEFAULT_KEY = "ANTHROPIC_API_KEY"
_BUILT_IN = {
    ("litellm_settings", "num_retries"): "retries of the gateway: before the first byte, with backoff, within a budget",
    ("litellm_settings", "request_timeout"): "deadlines of the gateway: 10 minutes for an answer to begin",
    ("litellm_settings", "json_logs"): "logs",
    ("router_settings", "num_retries"): "retries of the gateway: before the first byte, with backoff, within a budget",
    ("router_settings", "allowed_fails"): "the breaker: five failures in a row open it",
    ("router_settings", "cooldown_time"): "the breaker: then one request a second is a probe",
    ("general_settings", "store_prompts_in_spend_logs"): "prompts and answers are never stored",
    ("litellm_settings", "turn_off_message_logging"): "prompts and answers are never stored",
}
# By the first names of a path; the longest that fits is told.
_NOT_HERE: dict[Key, str] = {
    (
        "model_list",
    ): "a detail of LiteLLM's routing; prices come from the price table, capacity from the upstream's headers",
    ("litellm_settings",): "a setting of LiteLLM's library",
    ("litellm_settings", "max_budget"): "a budget belongs to a tenant here: tenants.<slug>.budget",
    ("litellm_settings", "budget_duration"): "a budget belongs to a tenant here: tenants.<slug>.budget",
    ("litellm_settings", "callbacks"): "requests are in the ledger and the metrics; nothing is sent elsewhere",
    ("litellm_settings", "success_callback"): "requests are in the ledger and the metrics; nothing is sent elsewhere",
    ("litellm_settings", "failure_callback"): "requests are in the ledger and the metrics; nothing is sent elsewhere",
    ("litellm_settings", "cache"): "answers are never stored; the upstream's prompt cache works as it is",
    ("litellm_settings", "cache_params"): "answers are never stored; the upstream's prompt cache works as it is",
    (
        "litellm_settings",
        "fallbacks",
    ): "a request is never sent to another model; tenants.<slug>.fallback is another key",
    ("litellm_settings", "drop_params"): "requests pass unchanged",
    ("router_settings",): "requests are not routed among models",
    ("router_settings", "redis_host"): "counters of several gateways have settings of their own",
    ("general_settings",): "a setting of LiteLLM's server",
    ("general_settings", "master_key"): "the admin's token is made by `tenantry init`",
    ("general_settings", "database_url"): "the store has its own setting, store_url; LiteLLM's database is not read",
    ("general_settings", "alerting"): "alerts are set per tenant: tenants.<slug>.alerts",
    ("general_settings", "max_budget"): "a budget belongs to a tenant here: tenants.<slug>.budget",
    ("environment_variables",): "set it in the environment of the gateway, if it is needed at all",
    ("guardrails",): "requests are neither read nor changed",
    ("mcp_servers",): "a gateway to the Messages API has none",
    ("users",): "there are no users apart from tenants and their keys",
    ("teams",): "no limit of this gateway",
    ("keys",): "no limit of this gateway",
}


def import_litellm(source: str, text: str, until: date | None, report: Report | None = None) -> Imported:
    """Read the text of `config.yaml`. Old keys work `until` (None: not at all).

    Raises:
        ImportRefused: something cannot be imported; it lists everything that cannot.
    """
    report = report or Report()
    document, leaves = read_yaml(source, text, report)
    report.require_sound()
    reading = Reading(source, report, until, document, leaves)
    _read_models(reading)
    clients = read_clients(reading)
    _settle_fallback(reading, clients)
    _read_settings(reading)
    _tell_the_rest(reading)
    report.require_sound()
    return checked(_result(reading, clients))


def _read_models(reading: Reading) -> None:
    if not rows(reading.document.get("model_list")):
        reading.problem(("model_list",), "names no model")
    secrets: dict[str, str] = {}
    for number, row in enumerate(rows(reading.document.get("model_list"))):
        path: Key = ("model_list", str(number))
        found = row.get("litellm_params")
        parameters = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
        model = str(parameters.get("model", ""))
        alias = str(row.get("model_name", model))
        ours = _our_model(model)
        reading.models.setdefault(alias, ours)
        if ours is None:
            provider = model.partition("/")[0] if "/" in model else "another provider"
            why = f"{provider}: this gateway forwards to Claude's Messages API alone"
            reading.tell(path, Fate.NOT_HERE, why)
            continue
        _tell_model(reading, path, alias, ours)
        _read_model_key(reading, path, parameters, secrets)
        _read_base(reading, path, parameters)


def _our_model(model: str) -> str | None:
    """The model as the Claude API calls it; None for another provider's."""
    provider, slash, name = model.partition("/")
    if not slash:
        provider, name = "anthropic", model
    if provider != "anthropic":
        return None
    if name in ("*", "claude*"):
        return "claude-*"
    return name if name.startswith("claude-") else None


def _tell_model(reading: Reading, path: Key, alias: str, ours: str) -> None:
    same = alias in (ours, f"anthropic/{ours}", "*", "anthropic/*")
    told = f"{ours} may be asked for"
    if not same:
        told += f"; not by the name {alias}"
        reading.report.warn(
            f"{reading.source}:{reading.line(path)}: clients that ask for {alias} must ask for {ours}: names of models "
            "pass unchanged"
        )
    reading.tell((*path, "model_name"), Fate.TAKEN, told)
    reading.tell((*path, "litellm_params", "model"), Fate.TAKEN, told)


def _read_model_key(reading: Reading, path: Key, parameters: dict[str, Any], secrets: dict[str, str]) -> None:
    place = (*path, "litellm_params", "api_key")
    value = parameters.get("api_key")
    if value is None:
        variable: str | None = DEFAULT_KEY
        reading.variables.setdefault(DEFAULT_KEY, "the Anthropic key")
    elif isinstance(value, str) and value in secrets:
        variable = secrets[value]
    else:
        proposed = DEFAULT_KEY if not secrets else f"{DEFAULT_KEY}_{len(secrets) + 1}"
        variable = reading.secret(place, value, proposed, "the Anthropic key")
        if variable is None:
            return
        secrets[str(value)] = variable
    if variable not in reading.credentials:
        reading.credentials.append(variable)
    rank = reading.credentials.index(variable)
    if rank == 0:
        reading.tell(place, Fate.TAKEN, f"tenants.toml: credential = env:{variable}")
    elif rank == 1:
        reading.fallbacks.append(place)
    else:
        reading.tell(
            place, Fate.NOT_HERE, "a tenant has one credential and one to fall back to; add it where it is needed"
        )


def _settle_fallback(reading: Reading, clients: Clients) -> None:
    """One tenant falls back to the second key. Several could only if it is stored as shared, which nobody has said."""
    if not reading.fallbacks:
        return
    variable = reading.credentials[1]
    alone = len(clients.tenants) == 1
    for entry in clients.tenants.values():
        if alone:
            entry["fallback"] = f"env:{variable}"
    for place in reading.fallbacks:
        if alone:
            reading.tell(place, Fate.TAKEN, f"tenants.toml: fallback = env:{variable}")
        else:
            reading.tell(
                place, Fate.NOT_HERE, "a second key; several tenants fall back to one only if it is stored as shared"
            )
    if not alone:
        reading.variables.pop(variable, None)
        reading.report.warn(
            f"the second key, {variable}, is nobody's: to have all fall back to it, store it with `tenantry "
            f'credentials add spare --env {variable} --shared` and write fallback = "vault:spare" into each tenant'
        )


def _read_base(reading: Reading, path: Key, parameters: dict[str, Any]) -> None:
    place = (*path, "litellm_params", "api_base")
    value = parameters.get("api_base")
    if value is None:
        return
    if isinstance(value, str) and value.startswith(REFERENCE):
        reading.tell(place, Fate.NOT_HERE, "set upstream_base_url in tenantry.toml to what that variable holds")
        return
    try:
        url = SETTINGS["upstream_base_url"].read(value)
    except ValueError as error:
        reading.problem(place, str(error))
        return
    if reading.settings.setdefault("upstream_base_url", url) != url:
        reading.tell(place, Fate.NOT_HERE, "a second upstream: declare it, and name it in tenants.<slug>.upstream")
    else:
        reading.tell(place, Fate.TAKEN, f"tenantry.toml: upstream_base_url = {url!r}")


def _read_settings(reading: Reading) -> None:
    for path, what in _BUILT_IN.items():
        reading.tell(path, Fate.BUILT_IN, what)


def _tell_the_rest(reading: Reading) -> None:
    """Whatever nothing has spoken for, line by line."""
    for leaf in reading.leaves:
        fits = [path for path in _NOT_HERE if leaf.path[: len(path)] == path]
        why = _NOT_HERE[max(fits, key=len)] if fits else "no section that this gateway knows"
        reading.tell(leaf.path, Fate.NOT_HERE, why)


def _result(reading: Reading, clients: Clients) -> Imported:
    report = reading.report
    if not reading.credentials:
        reading.credentials.append(DEFAULT_KEY)
        reading.variables.setdefault(DEFAULT_KEY, "the Anthropic key")
        report.warn(f"no model of Anthropic's is in the list; the tenants get the credential env:{DEFAULT_KEY}")
    shared = len(clients.tenants) > 1
    for entry in clients.tenants.values():
        entry["credential"] = f"env:{reading.credentials[0]}"
        if shared:
            entry["shared_credential"] = True
    if shared:
        report.warn(
            "the tenants share one Anthropic key, as before; shared_credential = true says so. They see each other's "
            "files, batches and limits upstream: give each a key of a workspace of its own"
        )
    limits = {**TIER_LIMITS, **clients.tier_limits}
    names = sorted({name for name in reading.models.values() if name is not None})
    if names and "claude-*" not in names:
        limits["models"] = names
    report.warn(f"tier {TIER} is as wide as LiteLLM was ({', '.join(limits)}); make it as narrow as you mean it")
    ordered = {slug: _in_order(entry) for slug, entry in clients.tenants.items()}
    document = {"tiers": {TIER: limits}, "tenants": ordered}
    return Imported(
        reading.settings, document, clients.comments, report.sorted_lines(), report.warnings, reading.variables
    )


def _in_order(entry: dict[str, Any]) -> dict[str, Any]:
    """Plain values as the format lists them, tables behind them."""
    order = ("name", "tier", "status", "credential", "shared_credential", "fallback", "limits", "budget", "keys")
    return {name: entry[name] for name in order if name in entry}
