#!/bin/bash
# Simon Willison's `llm` with its plugin for Anthropic; its name of the model is what the plugin knows.
set -euo pipefail
export ANTHROPIC_BASE_URL=$BASE_URL ANTHROPIC_API_KEY=$GATEWAY_KEY
llm=$CLIENT/bin/llm
case $1 in
  plain) "$llm" -m "anthropic/$MODEL" --no-stream Hello ;;
  stream) "$llm" -m "anthropic/$MODEL" Hello ;;
  tools) "$llm" -m "anthropic/$MODEL" --tool llm_version Hello ;;
esac
