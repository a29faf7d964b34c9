#!/bin/bash
# curl, which waits for `retry-after` where it is told to retry.
set -euo pipefail
ask() {
  curl --fail-with-body --silent --show-error --retry 2 "$BASE_URL/v1/$1" -H "x-api-key: $GATEWAY_KEY" \
    -H "anthropic-version: 2023-06-01" -H "content-type: application/json" "${@:2}"
}
hello='"model": "'$MODEL'", "messages": [{"role": "user", "content": "Hello"}]'
case $1 in
  plain) ask messages -d "{\"max_tokens\": 64, $hello}" ;;
  stream) ask messages --no-buffer -d "{\"max_tokens\": 64, \"stream\": true, $hello}" ;;
  count) ask messages/count_tokens -d "{$hello}" | sed 's/"input_tokens"/tokens/' ;;
  models) ask models ;;
esac
