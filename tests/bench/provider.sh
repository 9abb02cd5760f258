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
rate() { wrk -t1 -c64 -d5 "$@" | awk '/Requests\/sec/ {print $2}'; }

# start OPTION...: a simulator; sets pid and url.
start() {
    : >"$dir/out"
    "$bin/headrace-provider" --bind 127.0.0.1:0 --ledger "$dir/ledger" "$@" >"$dir/out" &
    pid=$!
    for _ in $(seq 100); do
        if grep -q listening "$dir/out"; then break; fi
        sleep 0.05
    done
    url=$(sed -n 's/.*listening on //p' "$dir/out")
}

stop() {
    kill "$pid"
    wait "$pid" 2>/dev/null || true
    rm -f "$dir/ledger"
}

start
echo "chat completions, with ledger: $(rate -s "$dir/post.lua" "$url/v1/chat/completions") requests/s"
echo "GET /health, same process:     $(rate "$url/health") requests/s"
stop
start --limit-rpm 100M --limit-tpm 10G
echo "limits on, OpenAI's headers:   $(rate -s "$dir/post.lua" "$url/v1/chat/completions") requests/s"
stop
start --limit-rpm 100M --limit-itpm 10G --limit-otpm 10G --limit-headers anthropic
echo "limits on, Anthropic's:        $(rate -s "$dir/post.lua" "$url/v1/chat/completions") requests/s"
