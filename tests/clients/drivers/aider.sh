#!/bin/bash
# aider, which asks for a model by LiteLLM.
set -euo pipefail
export ANTHROPIC_API_BASE=$BASE_URL ANTHROPIC_API_KEY=$GATEWAY_KEY
# Else it asks outside for a table of prices.
mkdir -p "$HOME/.aider/caches"
echo '{"-": {}}' > "$HOME/.aider/caches/model_prices_and_context_window.json"
aider() {
  "$CLIENT/bin/aider" --model "anthropic/$MODEL" --message Hello --yes-always --no-git --no-check-update \
    --analytics-disable --no-show-model-warnings --no-show-release-notes --no-detect-urls --no-pretty "$@"
}
case $1 in
  plain) aider --no-stream ;;
  stream) aider --stream ;;
esac
