"""The JSON schema of a file of tenants, for editors. Made from the tables that the reader follows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tenantry.control.declared.fields import (
    ALERT_FIELDS,
    BILLING_FIELDS,
    BUDGET_FIELDS,
    KEY_FIELDS,
    LABEL_CHARS_MAX,
    PLAN_DAY_FIELDS,
    PLAN_FIELDS,
    TENANT_FIELDS,
    Field,
    limit_schemas,
)
from tenantry.domain.limits import KEY_LIMITS

_SLUG = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"


def json_schema() -> dict[str, Any]:
    """The whole schema."""
    key = _table(_fields(KEY_FIELDS) | {"limits": _table(limit_schemas(KEY_LIMITS))})
    tenant = _table(
        _fields(TENANT_FIELDS)
        | {
            "limits": _table(limit_schemas()),
            "budget": _table(_fields(BUDGET_FIELDS)),
            "alerts": _table(_fields(ALERT_FIELDS)),
            "billing": _table(_fields(BILLING_FIELDS)),
            "slots": _named(_table({"limits": _table(limit_schemas(KEY_LIMITS))}), _SLUG),
            "keys": _named(key, rf"^.{{1,{LABEL_CHARS_MAX}}}$"),
        }
    )
    tenant["required"] = ["name"]
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Tenants of a Tenantry gateway",
        **_table(
            {
                "tiers": _named(_table(limit_schemas()), _SLUG),
                "plans": _named(_table(_fields(PLAN_FIELDS | PLAN_DAY_FIELDS)), _SLUG),
                "tenants": _named(tenant, _SLUG),
            }
        ),
    }


def _fields(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {name: {"description": field.help, **field.schema} for name, field in fields.items()}


def _table(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties)}


def _named(block: Mapping[str, Any], pattern: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "patternProperties": {pattern: dict(block)}}
