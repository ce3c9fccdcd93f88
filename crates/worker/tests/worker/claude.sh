#!/bin/sh
# A stand-in for the Claude CLI: notes how it was called and plays the scene of this call (scene-N, else scene).
n=$(( $(cat "$STANDIN/count" 2>/dev/null || echo 0) + 1 ))
# Whole or not at all: a test may look while it is written.
echo $n > "$STANDIN/count.$$" && mv "$STANDIN/count.$$" "$STANDIN/count"
for argument in "$@"; do printf '%s\n' "$argument"; done > "$STANDIN/argv-$n"
env > "$STANDIN/env-$n"
date +%s%N > "$STANDIN/time-$n"
k=0
answer() {
    k=$((k + 1))
    printf '{"type":"assistant","message":{"id":"m%s-%s","model":"claude-sonnet-5-5","content":[%s],"usage":{"input_tokens":100,"output_tokens":10}},"parent_tool_use_id":null}\n' $n $k "$1"
}
say() { answer "{\"type\":\"text\",\"text\":\"$1\"}"; }
call() { answer "{\"type\":\"tool_use\",\"id\":\"t$n-$k\",\"name\":\"Bash\",\"input\":{\"command\":\"$1\"}}"; }
returned() { printf '{"type":"user","message":{"role":"user","content":[{"tool_use_id":"t%s-%s","type":"tool_result","content":"%s","is_error":false}]},"parent_tool_use_id":null}\n' $n $((k - 1)) "$1"; }
init() { printf '{"type":"system","subtype":"init","session_id":"x","model":"claude-sonnet-5-5","tools":[],"mcp_servers":[]}\n'; }
ok() { printf '{"type":"result","subtype":"success","is_error":false,"terminal_reason":"completed","stop_reason":"end_turn","num_turns":1,"total_cost_usd":0.001,"model_usage_since_last_result":{"m":{"costUSD":0.001}},"result":"%s"}\n' "$1"; exit 0; }
refused() { printf '{"type":"assistant","message":{"id":"e%s","model":"<synthetic>","content":[{"type":"text","text":"%s"}]},"error":"%s","api_error_status":%s}\n{"type":"result","subtype":"success","is_error":true,"terminal_reason":"api_error","stop_reason":"stop_sequence","api_error_status":%s,"num_turns":1,"total_cost_usd":0}\n' $n "$3" "$1" "$2" "$2"; exit 1; }
done_() { say "All done.\\nAUTOPILOT: DONE"; ok "All done.\\nAUTOPILOT: DONE"; }
# Silent until it is ended.
hang() { exec sleep 300; }
if [ -e "$STANDIN/scene-$n" ]; then . "$STANDIN/scene-$n"; else . "$STANDIN/scene"; fi
