# Sourced by the scripts that run in the guest: each promise ends as one line, `ok PROMISE` or `not ok PROMISE # reason`.
set -euo pipefail
cordon_vm=/opt/cordon-vm # only the guest has it
[ -d "$cordon_vm" ] || { echo 'error: this script changes the machine it runs on; run it with test/vm/vm-run' >&2; exit 64; }

# promise TEXT COMMAND... : the command runs in a subshell under `set -e`; its last lines are the reason when it fails.
promise() {
  local text=$1 output status
  shift
  set +e
  output=$(set -euo pipefail; "$@" 2>&1)
  status=$?
  set -e
  if [ "$status" = 0 ]; then echo "ok $text"; else echo "not ok $text # status $status: $(tail -n 12 <<<"$output" | tr '\n' '|')"; fi
}

# expect WHAT FOUND WANTED
expect() { [ "$2" = "$3" ] || { echo "$1: found \"$2\", expected \"$3\""; return 1; }; }

# eventually SECONDS COMMAND... : until it succeeds; its last output if it does not.
eventually() {
  local until=$((SECONDS + $1)) output
  shift
  while ! output=$("$@" 2>&1); do
    [ "$SECONDS" -lt "$until" ] || { echo "still failing: $*: $output"; return 1; }
    sleep 0.3
  done
}
