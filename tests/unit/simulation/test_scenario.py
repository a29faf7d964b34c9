"""A scenario is read whole, or every fault of it is told in words, with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantry.simulation.scenario import BadScenario, read_scenario

EXAMPLE = Path(__file__).parents[3] / "docs" / "examples" / "simulate.toml"
TENANT = "[tenants.acme]\n[[tenants.acme.traffic]]\n"


def test_the_example_is_read() -> None:
    scenario = read_scenario(EXAMPLE.read_bytes())
    assert scenario.tenants["acme"].limits.sessions_max == 5
    assert scenario.tenants["globex"].limits.sessions_max == 15
    assert [name for name in scenario.tenants if name.startswith("small")] == [f"small-{n}" for n in range(1, 6)]
    assert scenario.organizations["agency"].limits.request_burst == 1000


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = ", "this is no TOML"),
        ("", "there is no tenant"),
        ("[tenant.acme]", "tenant is not known; did you mean tenants?"),
        ("[tenants.acme]", "tenants.acme has no traffic: write [[tenants.acme.traffic]]"),
        (TENANT + 'shape = "ofice"', "tenants.acme.traffic[1].shape: there is no 'ofice'; there are: steady, office"),
        (TENANT + "prompt_tokens = 0", "tenants.acme.traffic[1].prompt_tokens must be from 1 to 1,000,000, not 0"),
        (TENANT + 'stream = "yes"', "tenants.acme.traffic[1].stream must be true or false, not 'yes'"),
        (
            TENANT + 'shape = "office"\nfrom_hour = 18\nto_hour = 8',
            "tenants.acme.traffic[1].to_hour must be later than from_hour, 18: a night is two of them",
        ),
        (TENANT + "seed = true", "tenants.acme.traffic[1].seed is not known"),
        (TENANT + 'model = "gpt"', "tenants.acme.traffic[1].model: 'gpt' has no price"),
        ("[simulation]\ndays = true\n" + TENANT, "simulation.days must be a number, not True"),
        ('[simulation]\ntime_zone = "Moon"\n' + TENANT, "there is no time zone 'Moon'; write one such as"),
        ("[simulation]\ngateways = 0\n" + TENANT, "simulation.gateways must be from 1 to 1,000, not 0"),
        ('[simulation]\nbalancer = "dns"\n' + TENANT, "simulation.balancer: there is no 'dns'; there are: tenant, any"),
        ('[simulation]\nstart = "soon"\n' + TENANT, "simulation.start must be a day or a time"),
        ("[organizations.a]\nsessions_max = -1\n" + TENANT, "organizations.a: sessions_max must be a whole number"),
        ('[tenants.acme]\ntier = "gold"\n[[tenants.acme.traffic]]', "tenants.acme.tier: there is no 'gold'"),
        ('[tenants.acme]\nbudget = { day = "-1" }\n[[tenants.acme.traffic]]', "tenants.acme.budget.day: "),
        ("[tenants.Acme]\n[[tenants.Acme.traffic]]", "a tenant's name is written with a-z, 0-9 and inner hyphens"),
        ("tenants = 3", "tenants must be a table"),
    ],
)
def test_a_fault_is_told_with_its_place(text: str, told: str) -> None:
    with pytest.raises(BadScenario) as error:
        read_scenario(text.encode())
    assert told in str(error.value)


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(BadScenario) as error:
        read_scenario(b'[tenants.a]\ntier = "gold"\n[tenants.b]\nlimits = { sesions_max = 3 }\n')
    assert len(str(error.value).splitlines()) >= 4
