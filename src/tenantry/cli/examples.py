"""Examples, for the end of each `--help`. A test holds that every command has some, and that all of them parse."""

from __future__ import annotations

from typing import Any, Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "init": ("tenantry init",),
    "serve": ("tenantry serve --demo", "TENANTRY_GATEWAY_PORT=8080 tenantry serve"),
    "gateway": ("tenantry gateway",),
    "control": ("tenantry control",),
    "restart": ("tenantry restart",),
    "simulate": (
        "tenantry simulate plan.toml",
        "tenantry simulate plan.toml --days 7 --html report.html",
        "tenantry simulate --from-site 14",
        "tenantry simulate --storm --hours 1000 --seed 7",
    ),
    "sandbox": ("tenantry sandbox --port 3002",),
    "doctor": ("tenantry doctor", "tenantry doctor --json"),
    "provision": (
        "tenantry provision 'Acme GmbH' --tier premium --credential-env ACME_KEY",
        "tenantry provision 'Acme GmbH' --slug acme --credential sandbox --month 50",
        "tenantry provision --from clients.csv",
    ),
    "usage": (
        "tenantry usage acme",
        "tenantry usage acme --month 2026-10 --json",
        "tenantry usage acme --week 2026-W47 --format html --out acme.html",
        "tenantry usage --all",
        "tenantry usage --all --week last",
    ),
    "plan": ("tenantry plan", "tenantry plan tenants.toml --out plan.json"),
    "apply": ("tenantry apply", "tenantry apply plan.json --yes --keys-out new.keys.jsonl"),
    "drift": ("tenantry drift", "tenantry drift --json"),
    "audit": ("tenantry audit --tenant acme --since 7d", "tenantry audit --out audit.csv", "tenantry audit --verify"),
    "export": ("tenantry export --week 2026-W47", "tenantry export --month 2026-10 --tenant acme --format json"),
    "backup": ("tenantry backup tenantry-2026-11-24.tar", "tenantry backup backups --check"),
    "restore": ("tenantry restore tenantry-2026-11-24.tar --check", "tenantry restore tenantry-2026-11-24.tar --yes"),
    "store copy": (
        "tenantry store copy --to postgresql://tenantry@db.internal/tenantry",
        "tenantry store copy --to sqlite:////srv/tenantry.db",
    ),
    "import env-file": ("tenantry import env-file .env.proxy --routes tenant-routes.json --grace 30d",),
    "import litellm": ("tenantry import litellm config.yaml --out gateway",),
    "gateways list": ("tenantry gateways list", "tenantry gateways list --json"),
    "gateways forget": (
        "tenantry gateways forget gateway-01795967154446435262-10075",
        "tenantry gateways forget gateway-01795967154446435262-10075 --yes --json",
    ),
    "controls list": ("tenantry controls list", "tenantry controls list --json"),
    "cells list": ("tenantry cells list", "tenantry cells list --json"),
    "cells move": ("tenantry cells move acme --to gateway-01795967154446435262-10075",),
    "tiers list": ("tenantry tiers list",),
    "tiers show": ("tenantry tiers show standard",),
    "tiers set": ("tenantry tiers set standard --rpm 120 --burst 20", "tenantry tiers set night --sessions 2"),
    "tenants list": ("tenantry tenants list",),
    "tenants show": ("tenantry tenants show acme",),
    "tenants set": (
        "tenantry tenants set acme --tier premium --rpm 90",
        "tenantry tenants set acme --inherit rpm",
        "tenantry tenants set acme --host ai.acme.example",
    ),
    "tenants disable": ("tenantry tenants disable acme",),
    "tenants enable": ("tenantry tenants enable acme",),
    "tenants delete": ("tenantry tenants delete acme",),
    "tenants export": ("tenantry tenants export --out tenants.toml",),
    "tenants schema": ("tenantry tenants schema",),
    "tenants guide": ("tenantry tenants guide acme --out clients",),
    "tenants portal link": ("tenantry tenants portal link acme", "tenantry tenants portal link acme --days 7 --json"),
    "tenants portal list": ("tenantry tenants portal list acme",),
    "tenants portal revoke": (
        "tenantry tenants portal revoke acme ptl_0123",
        "tenantry tenants portal revoke acme --all",
    ),
    "tenants portal set": (
        "tenantry tenants portal set acme --rotate",
        "tenantry tenants portal set acme --password-env ACME_PORTAL_PASSWORD",
    ),
    "tenants fair-use": ("tenantry tenants fair-use acme",),
    "keys issue": (
        "tenantry keys issue acme --label ci --model 'claude-haiku-*' --rpm 30",
        "tenantry keys issue acme --slot writer",
    ),
    "slots add": ("tenantry slots add acme writer", "tenantry slots add acme night --sessions 1 --json"),
    "slots list": ("tenantry slots list acme",),
    "slots set": ("tenantry slots set acme writer --sessions 2 --rpm 30",),
    "slots remove": ("tenantry slots remove acme writer",),
    "keys rotate": ("tenantry keys rotate key_0123 --grace 24h",),
    "keys list": ("tenantry keys list acme",),
    "keys revoke": ("tenantry keys revoke key_0123",),
    "keys admin create": (
        "tenantry keys admin create monitoring --role viewer --expires-days 90",
        "tenantry keys admin create books --role billing --tenant acme --tenant globex",
    ),
    "keys admin list": ("tenantry keys admin list",),
    "keys admin rotate": ("tenantry keys admin rotate admin", "tenantry keys admin rotate monitoring --grace 24h"),
    "keys admin revoke": ("tenantry keys admin revoke monitoring",),
    "keys people link": ("tenantry keys people link", "tenantry keys people link ana"),
    "keys people invite": (
        "tenantry keys people invite ana --role operator",
        "tenantry keys people invite ben --role viewer --tenant acme --email b@a.example",
    ),
    "keys people list": ("tenantry keys people list",),
    "keys people change": ("tenantry keys people change ana --role billing --tenant acme --tenant globex",),
    "keys people disable": ("tenantry keys people disable ana",),
    "keys people enable": ("tenantry keys people enable ana",),
    "keys people reset-totp": ("tenantry keys people reset-totp ana",),
    "keys people delete": ("tenantry keys people delete ana",),
    "keys master rotate": ("tenantry keys master rotate", "tenantry keys master rotate --yes --json"),
    "credentials add": (
        "tenantry credentials add acme --env ACME_KEY",
        "tenantry credentials add house --stdin --shared",
    ),
    "credentials list": ("tenantry credentials list",),
    "credentials rotate": ("tenantry credentials rotate acme --env NEW_KEY",),
    "credentials check": ("tenantry credentials check acme",),
    "credentials bind": ("tenantry credentials bind acme acme", "tenantry credentials bind acme spare --fallback"),
    "credentials unbind-fallback": ("tenantry credentials unbind-fallback acme",),
    "credentials move": ("tenantry credentials move acme --upstream second",),
    "upstreams list": ("tenantry upstreams list",),
    "upstreams show": ("tenantry upstreams show anthropic",),
    "prices list": ("tenantry prices list",),
    "prices show": ("tenantry prices show claude-sonnet-5-5",),
    "prices set": ("tenantry prices set claude-opus-6 --input 5 --output 25",),
    "prices import": ("tenantry prices import prices.json --from 2027-01-01",),
    "prices history": ("tenantry prices history",),
    "prices rule": ("tenantry prices rule same-family", "tenantry prices rule none"),
    "plans list": ("tenantry plans list",),
    "plans show": ("tenantry plans show pro",),
    "plans set": (
        "tenantry plans set studio --fee 179 --slots 5 --included 100 --markup 20",
        "tenantry plans set studio --fee 199 --from 2027-01-01",
        "tenantry plans set metered --markup 15 --minimum 20",
    ),
    "plans assign": ("tenantry plans assign acme pro", "tenantry plans assign acme team --from 2027-01-01 --slots 12"),
    "plans simulate": ("tenantry plans simulate acme --plan team --months 3",),
    "plans remove": ("tenantry plans remove studio",),
    "plans examples": ("tenantry plans examples --add",),
    "invoice": (
        "tenantry invoice acme --month 2026-11",
        "tenantry invoice acme --month 2026-11 --format pdf",
        "tenantry invoice acme --month 2026-10 --issue --out acme.html",
        "tenantry invoice --all --issue --yes --out invoices",
    ),
    "invoices list": ("tenantry invoices list --month 2026-10",),
    "invoices show": (
        "tenantry invoices show INV-2026-0001 --format html --out acme.html",
        "tenantry invoices show INV-2026-0001 --format pdf",
    ),
    "invoices credit": (
        "tenantry invoices credit INV-2026-0001 --reason 'wrong address'",
        "tenantry invoices credit INV-2026-0001 --reason 'slow answers' --amount 12.50",
    ),
    "invoices verify": ("tenantry invoices verify",),
    "invoices details": (
        "tenantry invoices details --name 'Agency GmbH' --tax VAT=19",
        "tenantry invoices details acme --currency EUR --rate 0.92 --locale de_DE",
        "tenantry invoices details acme --country FR --vat-category AE",
        "tenantry invoices details acme --city Town --buyer-reference 04011000",
    ),
    "margin": ("tenantry margin", "tenantry margin --month 2026-10 --json"),
    "budget show": ("tenantry budget show acme",),
    "budget set": ("tenantry budget set acme --month 50 --mode hard", "tenantry budget set acme --day none"),
    "budget raise": (
        "tenantry budget raise acme --by 20 --until 2026-11-30",
        "tenantry budget raise acme --by 20 --until 2026-11-30 --period plan",
    ),
    "alerts list": ("tenantry alerts list --tenant acme",),
    "alerts test": ("tenantry alerts test", "tenantry alerts test chat"),
    "alerts thresholds": ("tenantry alerts thresholds acme", "tenantry alerts thresholds acme 50,80,100"),
    "alerts targets list": ("tenantry alerts targets list",),
    "alerts targets add": (
        "tenantry alerts targets add chat --apprise-env CHAT_URL",
        "tenantry alerts targets add hook --webhook https://hooks.example.com/t",
    ),
    "alerts targets remove": ("tenantry alerts targets remove chat",),
    "ledger verify": ("tenantry ledger verify",),
    "ledger show": ("tenantry ledger show req_0123",),
    "ledger quarantine": ("tenantry ledger quarantine", "tenantry ledger quarantine --retry"),
    "ledger recompute": (
        "tenantry ledger recompute --price-version 2026-12-01 --prices prices.json",
        "tenantry ledger recompute --price-version 2026-12-01 --prices new.json --book",
    ),
    "service show": ("tenantry service show --system",),
    "service install": ("tenantry service install --user", "tenantry service install --system --yes"),
    "verify isolation": ("tenantry verify isolation --report isolation.html", "tenantry verify isolation --quick"),
}
# Of a group with more commands, the first example of each of the first ones.
_SHOWN_OF_GROUP_MAX = 5


def examples_of(path: str) -> list[str]:
    """Of a command, all; of a group, one of each of its first commands."""
    if path in EXAMPLES:
        return list(EXAMPLES[path])
    return [found[0] for name, found in EXAMPLES.items() if name.startswith(f"{path} ")][:_SHOWN_OF_GROUP_MAX]


def add_examples(command: Any, path: str) -> None:
    """Put them at the end of a command's help, and of what is below it."""
    found = examples_of(path)
    if found:
        # Rich keeps single line ends; a formatter of paragraphs would join the lines.
        command.epilog = "\n".join(["Examples:" if len(found) > 1 else "Example:", *(f"  {one}" for one in found)])
    for name, below in getattr(command, "commands", {}).items():
        add_examples(below, f"{path} {name}")
