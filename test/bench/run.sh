#!/bin/bash
# npm run bench [start|memory|proxy|egress|egress-load|query|verify|audit]: figures as ratios against a bare baseline in the same run. Needs root; not a test.
# Memory per plugin is promised for crun, so that part also runs in the VM (unified cgroup v2).
set -euo pipefail
cd "$(dirname "$0")/../.."
bash deploy/setup.sh test
node=$(echo "$PWD"/node_modules/node-linux-*/bin/node)
want() { [ -z "$only" ] || [ "$only" = "$1" ]; }
only=${1:-}
if want start; then "$node" test/bench/start.ts; fi
if want proxy; then "$node" test/bench/proxy.ts; fi
if want query; then "$node" test/bench/query.ts; "$node" test/bench/query.ts clean; fi
if want egress; then "$node" test/bench/egress.ts; fi
if want egress-load; then "$node" deploy/build.mjs && "$node" test/bench/egress-load.ts; fi
if want audit; then "$node" test/bench/audit.ts; fi
if want verify; then "$node" test/bench/verify.ts; fi
if want memory; then
  "$node" test/bench/memory.ts
  echo 'memory, in the VM with crun:'
  test/vm/vm-run --mem 4G --timeout 1500 -- "$node" test/bench/memory.ts
fi
