"""The page that a new client gets: how to use its endpoint. It never holds the key."""

from __future__ import annotations

import os
from pathlib import Path
from string import Template

from tenantry.settings import Settings

_GUIDE = Template("""# Claude access for $name

Endpoint: `$endpoint`
Tenant id: `$slug` (tier: $tier)

## Your key

You were given a gateway key that begins with `sk-proxy-$slug-`. Treat it like a password: keep it in a secret store or
an environment variable, never in code, a URL, or a chat. It works only at this endpoint. If it may have leaked, tell
$contact at once; it is replaced in a minute. Do not send Anthropic keys or Claude logins here; they are refused.

The examples read it from the environment:

```sh
export TENANTRY_KEY=...        # your gateway key
```

## curl

```sh
curl $endpoint/v1/messages \\
  -H "x-api-key: $$TENANTRY_KEY" -H "anthropic-version: 2023-06-01" -H "content-type: application/json" \\
  -d '{"model":"$model","max_tokens":256,"messages":[{"role":"user","content":"Hello"}]}'
```

## Python

```python
import os
from anthropic import Anthropic

client = Anthropic(base_url="$endpoint", api_key=os.environ["TENANTRY_KEY"])
message = client.messages.create(
    model="$model", max_tokens=256, messages=[{"role": "user", "content": "Hello"}]
)
print(message.content[0].text, message.usage)
```

## TypeScript

```ts
import Anthropic from "@anthropic-ai/sdk";

const client = new Anthropic({ baseURL: "$endpoint", apiKey: process.env.TENANTRY_KEY });
const message = await client.messages.create({
  model: "$model", max_tokens: 256, messages: [{ role: "user", content: "Hello" }],
});
```

## Claude Code

```sh
export ANTHROPIC_BASE_URL=$endpoint
export ANTHROPIC_AUTH_TOKEN=$$TENANTRY_KEY
claude
```

Log out of claude.ai first (`claude /logout`): with a login active, Claude Code sends that login here, and it
is refused.

## OpenClaw

```json
{
  "models": {
    "providers": {
      "agency": { "api": "anthropic-messages", "baseUrl": "$endpoint", "apiKey": "$${TENANTRY_KEY}" }
    }
  }
}
```

## Limits

* Requests in flight at once: $sessions. One more is answered 429 with `retry-after`; SDKs wait and try again by
  themselves.
* A request body may have 32 MB.
* Errors have the Claude API's own shape; quote the `request-id` header when you report one.

## Whom to ask

$contact
""")


def client_guide(settings: Settings, slug: str, name: str, tier: str, sessions_max: int, model: str) -> str:
    """The guide as Markdown."""
    return _GUIDE.substitute(
        name=name,
        slug=slug,
        tier=tier,
        sessions=sessions_max,
        model=model,
        endpoint=endpoint_of(settings, slug),
        contact=settings.contact or "your agency",
    )


def endpoint_of(settings: Settings, slug: str) -> str:
    return f"{settings.public_url}/t/{slug}"


def write_client_guide(folder: Path, slug: str, text: str) -> Path:
    """Write `<folder>/<slug>.md`, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{slug}.md"
    draft = folder / f".{slug}.md.new"
    draft.write_text(text, "utf-8")
    os.replace(draft, path)
    return path
