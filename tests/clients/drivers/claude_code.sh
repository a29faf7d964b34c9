#!/bin/bash
# Claude Code without a terminal. What its window shows of tokens and models it asks for there alone.
set -euo pipefail
export ANTHROPIC_BASE_URL=$BASE_URL ANTHROPIC_AUTH_TOKEN=$GATEWAY_KEY
claude=$CLIENT/node_modules/.bin/claude
case $1 in
  stream) "$claude" -p "Say hello" --model "$MODEL" ;;
  tools) "$claude" -p "Say hello" --model "$MODEL" --tools Read --allowedTools Read ;;
  count) "$claude" -p /context --model "$MODEL" ;;
  models) CLAUDE_CODE_ENABLE_GATEWAY_MODEL_DISCOVERY=1 "$claude" -p "Say hello" --model "$MODEL" ;;
esac
