#!/bin/bash
# A kernel that was booted with ipv6.disable=1: no address family, no /proc/net/if_inet6, no ip6 in the namespaces that Cordon makes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
out=/opt/cordon-vm/out
mkdir -p /srv/probe /etc/cordon/policies
cp "$tree/deploy/samples/hostile" /srv/probe/hostile

python3 - >/dev/null 2>&1 <<'P' &
import socket
s = socket.create_server(('0.0.0.0', 4711))
while True:
    s.accept()[0].sendall(b'hello')
    open('/opt/cordon-vm/received', 'a').write('x')
P
listener=$!
eventually 60 eval 'grep -q ":1267 " /proc/net/tcp'
"$tree/deploy/cordon" run --read /srv/probe/hostile -- /bin/sh -c '
  for attempt in interfaces "tcp-connect 127.0.0.1 4711" "tcp-connect 192.0.2.1 443" "udp-send 192.0.2.1 53" "tcp-connect 2001:db8::1 443"; do perl /srv/probe/hostile $attempt; done' >"$out" 2>&1 || true
result() { sed -n "s/.*\"detail\":\"$2\",\"probe\":\"$1\".*\"result\":\"\([^\"]*\)\".*/\1/p" "$out"; }

promise 'this kernel has no IPv6' eval '[ ! -e /proc/net/if_inet6 ]'
promise 'cordon run works, and stays sealed' eval '
  cat "$out"; expect interfaces "$(result interfaces "")" LOOPBACK-ONLY
  expect loopback "$(result tcp-connect "127.0.0.1 4711")" ECONNREFUSED; expect tcp "$(result tcp-connect "192.0.2.1 443")" ECONNREFUSED
  expect udp "$(result udp-send "192.0.2.1 53")" EPERM; expect v6 "$(result tcp-connect "2001:db8::1 443")" EAFNOSUPPORT'
promise 'a listener of the host received nothing from it, and hears from outside the walls' eval '
  [ ! -e /opt/cordon-vm/received ]; perl /srv/probe/hostile tcp-connect 127.0.0.1 4711 | grep -q "\"OK\""; eventually 60 [ -e /opt/cordon-vm/received ]'
door() {
  local said
  said=$("$tree/deploy/cordon" run --allow host.internal:4711 -- python3 -c 'import socket; print(socket.create_connection(("host.internal", 4711), 120).recv(9))' 2>&1) || { echo "$said"; return 1; }
  expect door "$said" "b'hello'"
}
promise 'the door opens where it was told to' door
promise 'its attempts are on record' eval 'cat /var/lib/cordon/runs/*/records/*.jsonl | grep "egress.attempted" | grep -q "tcp 192.0.2.1:443"'

promise 'doctor says that there is no IPv6, and fails on nothing for it' eval '
  "$tree/deploy/cordon" doctor >/opt/cordon-vm/doctor || { cat /opt/cordon-vm/doctor; exit 1; }; grep -qi "ipv6" /opt/cordon-vm/doctor'

"$tree/deploy/cordon" serve >/opt/cordon-vm/serve 2>&1 &
serve=$!
promise 'the daemon serves' eval 'eventually 240 "$tree/deploy/cordon" status; cat /opt/cordon-vm/serve'
kill "$serve" "$listener" # what holds our output open would hold up the machine's end
wait "$serve" || true
