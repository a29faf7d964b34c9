"""For any two states a and b: a plan from a to b, applied, gives b, and the next plan is empty."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenantry.control.declared.applying import apply_plan
from tenantry.control.declared.exporting import export_tenants
from tenantry.control.declared.model import Declaration, KeyBlock, TenantBlock
from tenantry.control.declared.planning import make_plan
from tenantry.control.declared.reader import read_files
from tenantry.control.declared.references import References
from tenantry.control.declared.state import read_standing
from tenantry.control.site import Site
from tenantry.domain.billing_details import Details
from tenantry.domain.limits import Limits
from tenantry.domain.plans import Terms
from tenantry.storage.columns import now_utc
from tests.unit.control.declared.sites import copy_site, new_site

SLUGS = ("acme", "beta", "gamma")
TIERS = ("gold", "premium", "standard")
PLANS = ("studio", "flat")
HOSTS = ("ai.one.example", "ai.two.example", "xn--bcher-kva.example")
SLOTS = ("writer", "reader", "night")
BILLING = (
    None,
    Details(),
    Details(name="Acme", address="Main Street 1\nTown", currency="EUR", rate="0.92", taxes=(("VAT", "19"),)),
    Details(street="A 1\nB", postcode="1", city="C", country="DE", contact="D", phone="+1 234", buyer_reference="E"),
    Details(vat_category="AE"),
    Details(tax_id="DE 1", locale="de_DE", taxes=(), due_days=30, purchase_order="4711"),
)
LABELS = ("production", "test", "a b.c")
# Each credential of its own; two in the vault, the rest from outside.
OWN = tuple(f"env:KEY_{n}" for n in range(3))
VAULT = ("vault:spare-1", "vault:spare-2")
SECRETS = {f"KEY_{n}": f"sk-ant-api03-any-{n}" for n in range(3)} | {
    "HOOK_1": "http://127.0.0.1:9/1",
    "HOOK_2": "http://127.0.0.1:9/2",
    "OLD_KEY": "an-old-key-of-a-proxy-0001",
}

nanos = st.one_of(st.none(), st.integers(1, 10**13))
few_limits = st.fixed_dictionaries(
    {},
    optional={
        "sessions_max": st.integers(5, 50),
        "requests_per_minute": st.one_of(st.none(), st.integers(60, 600)),
        "models": st.just(("claude-haiku-*",)),
    },
)
key_blocks = st.builds(
    KeyBlock,
    expires_at=st.one_of(st.none(), st.datetimes(datetime(2030, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))),
    rotate_days=st.one_of(st.none(), st.integers(1, 3650)),
    limits=st.fixed_dictionaries({}, optional={"requests_per_minute": st.integers(1, 60)}),
)
slot_limits = st.fixed_dictionaries({}, optional={"sessions_max": st.integers(1, 5)})
terms = st.builds(
    Terms,
    fee_nanos=st.integers(0, 10**12),
    included_nanos=st.integers(0, 10**12),
    markup_percent=st.sampled_from(["0", "12.5", "20"]),
    slots=st.one_of(st.none(), st.integers(1, 50)),
)


@st.composite
def declarations(draw: st.DrawFn) -> Declaration:
    tiers = draw(st.dictionaries(st.sampled_from(TIERS), st.builds(Limits, sessions_max=st.integers(5, 99))))
    plans = draw(st.dictionaries(st.sampled_from(PLANS), terms))
    references = draw(st.permutations((*OWN, *VAULT)))
    owners = draw(st.dictionaries(st.sampled_from(HOSTS), st.sampled_from(SLUGS)))
    tenants: dict[str, TenantBlock] = {}
    for slug, reference in zip(draw(st.lists(st.sampled_from(SLUGS), unique=True)), references, strict=False):
        has_credential = draw(st.booleans())
        plan = draw(st.sampled_from([None, *plans]))
        slots = draw(st.none() | st.dictionaries(st.sampled_from(SLOTS), slot_limits))
        keys = draw(st.dictionaries(st.sampled_from(LABELS), key_blocks))
        for label in keys if slots else ():
            slot = draw(st.sampled_from(["", *(slots or {})]))
            keys[label] = replace(keys[label], slot=slot, limits={}) if slot else keys[label]
        tenants[slug] = TenantBlock(
            name=draw(st.sampled_from(["Acme", "Ünïcode & Co", 'a "quoted" name'])),
            tier=draw(st.sampled_from(sorted({"standard", "enterprise", *tiers}))),
            plan=plan,
            plan_slots=len(SLOTS) if plan is not None else None,
            billing=draw(st.sampled_from(BILLING)),
            slots=slots,
            status=draw(st.sampled_from(["active", "disabled"])),
            contact=draw(st.sampled_from([None, "ops@acme.example"])),
            credential=reference if has_credential else None,
            fallback=references[-1] if has_credential and not tenants and draw(st.booleans()) else None,
            upstream=draw(st.sampled_from([None, "anthropic", "other"])) if has_credential else None,
            workspace=draw(st.sampled_from([None, "wrkspc_1", "wrkspc_2"])) if has_credential else None,
            user_profile=draw(st.sampled_from([None, "uprof_1"])),
            disconnect=draw(st.sampled_from(["drain", "cancel"])),
            offboard=draw(st.sampled_from(["keep", "delete"])),
            hosts=tuple(sorted(host for host, owner in owners.items() if owner == slug)),
            limits=draw(few_limits),
            month_nanos=draw(nanos),
            week_nanos=draw(nanos),
            day_nanos=draw(nanos),
            budget_mode=draw(st.sampled_from(["hard", "soft"])),
            thresholds=draw(st.sampled_from([None, (), (50, 100)])),
            targets=draw(st.sampled_from([(), ("env:HOOK_1",), ("env:HOOK_1", "env:HOOK_2")])),
            keys=keys,
        )
    return Declaration(tiers, plans, tenants, documents={"any.toml": {"tenants": {}}})


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = new_site(tmp_path_factory.mktemp("template"))
    site.directory.set_upstream("other", "https://other.example")
    for name in ("spare-1", "spare-2"):
        site.directory.add_credential(name, f"sk-ant-api03-{name}", "anthropic")
    site.engine.dispose()
    return site


def reach(site: Site, declared: Declaration, folder: Path) -> None:
    references = References(SECRETS)
    plan = make_plan(site, declared, references)
    apply_plan(site, plan, references, keys_out=None, statements=folder)
    assert make_plan(site, declared, references).changes == []
    assert make_plan(site, declared, References({})).changes == []  # nor without the secrets


def require_state(site: Site, declared: Declaration) -> None:
    """What is declared stands, field by field, and nothing else is active."""
    standing = read_standing(site.directory)
    for slug, block in declared.tenants.items():
        stood = standing.tenants[slug].block
        wanted = replace(
            block,
            shared_credential=stood.shared_credential,
            credential=stood.credential if block.credential in VAULT else block.credential,
            fallback=stood.fallback if block.fallback in VAULT else block.fallback,
            upstream=block.upstream or stood.upstream,
            workspace=block.workspace or stood.workspace,
            plan_slots=block.plan_slots or stood.plan_slots,
            plan_from=stood.plan_from,
            billing=stood.billing if block.billing in (None, stood.billing or Details()) else block.billing,
            slots=stood.slots if block.slots is None else block.slots,
        )
        assert stood == wanted
        for reference, name in (
            (block.credential, standing.tenants[slug].credential),
            (block.fallback, standing.tenants[slug].fallback),
        ):
            if reference in VAULT:
                assert f"vault:{name}" == reference
    for slug, tenant in standing.tenants.items():
        if slug not in declared.tenants:
            assert tenant.block.status == "disabled"
            assert not tenant.keys
            assert not tenant.declared
    for name, limits in declared.tiers.items():
        assert standing.tiers[name] == limits
    for name, one in declared.plans.items():
        assert standing.plans[name] == one
    assert site.directory.verify_audit()[1] == []


def possible(before: Declaration | None, after: Declaration) -> Declaration:
    """A tier or plan that a tenant kept has when it leaves cannot go with it: it stays declared."""
    if before is None:
        return after
    kept = [block for slug, block in before.tenants.items() if slug not in after.tenants and block.offboard == "keep"]
    tiers = {block.tier: before.tiers[block.tier] for block in kept if block.tier in before.tiers}
    plans = {block.plan: before.plans[block.plan] for block in kept if block.plan is not None}
    return replace(after, tiers=tiers | dict(after.tiers), plans=plans | dict(after.plans))


@pytest.mark.sqlite  # a hundred sites, each a copy of a file; plan and apply are tried on both in test_applying.py
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(first=declarations(), second=declarations())
def test_a_plan_from_any_state_to_any_other_gives_the_other(
    template: Site, first: Declaration, second: Declaration
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        site = copy_site(template, folder)
        second = possible(first, second)
        try:
            reach(site, first, folder)
            require_state(site, first)
            reach(site, second, folder)
            require_state(site, second)
            file = folder / "exported.toml"
            file.write_text(export_tenants(read_standing(site.directory), site.settings.zone, now_utc()))
            exported = read_files([file], site.settings.zone)
            changes = make_plan(site, exported, References(SECRETS)).changes
            assert [one for one in changes if one.action != "plan.set"] == []
        finally:
            site.engine.dispose()
