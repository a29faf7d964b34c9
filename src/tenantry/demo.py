"""`tenantry serve --demo`: a tenant to try the gateway with, and the words that show how."""

from __future__ import annotations

import os
from pathlib import Path

from tenantry.control.provisioning import CredentialChoice, Provisioned, provision
from tenantry.control.refusals import ProvisionFailed
from tenantry.control.site import SANDBOX, Site, endpoint_of
from tenantry.storage.directory import NotInDirectory

DEMO = "demo"


def greet(site: Site) -> str:
    """Make the demo tenant if it is not there, and say how to use it."""
    settings = site.settings
    try:
        site.directory.get_tenant(DEMO)
    except NotInDirectory:
        key = os.environ.get("ANTHROPIC_API_KEY")
        choice = CredentialChoice(secret=key) if key else CredentialChoice(name=SANDBOX)
        try:
            made = provision(site, "demo", "standard", choice, Path("clients"))
        except ProvisionFailed as error:
            return f"\nThe demo tenant could not be made: {error}\nThe gateway runs; mend this and start again.\n"
        return _welcome(site, made)
    return (
        f"\nTenantry serves on {settings.public_url}\n"
        f"The demo tenant is at {endpoint_of(settings, DEMO)}; its key was shown when it was made.\n"
        f"Another key: tenantry keys issue {DEMO}\n"
        f"The control room is at {settings.control_url}\n"
    )


def _welcome(site: Site, made: Provisioned) -> str:
    simulated = (
        "\n*** SIMULATION: no ANTHROPIC_API_KEY is set, so the upstream is the built-in sandbox.\n"
        "*** Its answers are made up and cost nothing; usage and cost are booked as if they were real.\n"
        if made.check.simulated
        else ""
    )
    return f"""
Tenantry serves on {site.settings.public_url}
{simulated}
Tenant    demo
Endpoint  {made.endpoint}
Key       {made.key}
          (shown only now; another one: tenantry keys issue demo)

curl
  curl {made.endpoint}/v1/messages -H "x-api-key: {made.key}" \\
    -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\
    -d '{{"model":"{made.check.model}","max_tokens":256,"messages":[{{"role":"user","content":"Hello"}}]}}'

Python
  from anthropic import Anthropic
  client = Anthropic(base_url="{made.endpoint}", api_key="{made.key}")
  print(client.messages.create(model="{made.check.model}", max_tokens=256,
                               messages=[{{"role": "user", "content": "Hello"}}]))

Claude Code (log out of claude.ai first: a login there would be sent here and refused)
  export ANTHROPIC_BASE_URL={made.endpoint}
  export ANTHROPIC_AUTH_TOKEN={made.key}

Control room  {site.settings.control_url}
What it used:  tenantry usage demo        Stop: Ctrl-C
"""
