#!/bin/bash
# OpenClaw's agent for one turn, with the provider of the client guide.
set -euo pipefail
mkdir -p "$HOME/.openclaw"
cat > "$HOME/.openclaw/openclaw.json" <<JSON
{
  "agents": { "defaults": { "model": { "primary": "agency/$MODEL" }, "workspace": "$PWD" } },
  "models": {
    "providers": {
      "agency": {
        "api": "anthropic-messages",
        "baseUrl": "$BASE_URL",
        "apiKey": "\${GATEWAY_KEY}",
        "models": [{ "id": "$MODEL", "name": "$MODEL", "input": ["text", "image"] }]
      }
    }
  }
}
JSON
"$CLIENT/node_modules/.bin/openclaw" agent --local --session-id conformance --message "Say hello"
