#!/bin/sh
# Requests a second of the provider simulator (one thread), beside its trivial /health page.
#   tests/bench/provider.sh [BIN_DIR]      needs wrk
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
bin=${1:-$root/build/bin}
dir=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; rm -rf "$dir"' EXIT
cat >"$dir/post.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer k"
wrk.body = '{"model":"m","messages":[{"role":"user","content":"Return {\\"sentiment\\": \\"<positive|negative|neutral>\\"}\\n\\n{\\"text\\":\\"The mic is great.\\"}"}]}'
LUA
"$bin/headrace-provider" --bind 127.0.0.1:0 --ledger "$dir/ledger" >"$dir/out" &
pid=$!
for _ in $(seq 100); do
    if grep -q listening "$dir/out"; then break; fi
    sleep 0.05
done
url=$(sed -n 's/.*listening on //p' "$dir/out")
rate() { wrk -t1 -c64 -d5 "$@" | awk '/Requests\/sec/ {print $2}'; }
echo "chat completions, with ledger: $(rate -s "$dir/post.lua" "$url/v1/chat/completions") requests/s"
echo "GET /health, same process:     $(rate "$url/health") requests/s"
