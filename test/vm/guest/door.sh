#!/bin/bash
# The door on unified cgroups under systemd, with crun: one allowed destination is reached through it, and nothing else.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
tree=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
out=/opt/cordon-vm/out
mkdir -p "$out" /srv/probe /etc/cordon
arrived=/opt/cordon-vm/arrived

# Two services of the host, and one that must never hear anything: each writes down who came.
python3 - >/dev/null 2>&1 <<P &
import socket, threading
def serve(port):
    s = socket.create_server(('0.0.0.0', port))
    while True:
        c = s.accept()[0]
        open('$arrived', 'a').write(f'{port}\n')
        c.sendall(b'served %d' % port)
        c.close()
def feed(c): # `f`: without end, else its own bytes back
    try:
        while first := c.recv(1):
            c.sendall(first)
            while first == b'f': c.sendall(bytes(65536))
    except OSError: pass
def feeds():
    s = socket.create_server(('0.0.0.0', 4713))
    while True: threading.Thread(target=feed, args=(s.accept()[0],)).start()
threading.Thread(target=feeds).start()
for port in (4711, 4712): threading.Thread(target=serve, args=(port,)).start()
P
services=$!
eventually 60 eval 'grep -q ":1268 " /proc/net/tcp'

# One run says all: what is allowed, then what is not, each with the errno that it gets.
cat >/srv/probe/tries.py <<'P'
import errno, socket
def tries(what, attempt):
    try: print(f'{what}: {attempt()}')
    except socket.gaierror: print(f'{what}: no such name')
    except OSError as e: print(f'{what}: {errno.errorcode.get(e.errno, "timeout")}')
def read(host, port, timeout=120):
    s = socket.create_connection((host, port), timeout)
    return s.recv(99).decode() or 'reset'
def asks(family, server):
    s = socket.socket(family, socket.SOCK_DGRAM); s.settimeout(60); s.connect((server, 53))
    s.send(bytes((0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0)) + b'\x04host\x08internal\x00\x00\x01\x00\x01')
    return socket.inet_ntoa(s.recv(512)[-4:]).rsplit('.', 1)[0]
tries('allowed', lambda: read('host.internal', 4711))
tries('other port', lambda: read('host.internal', 4712))
tries('other name', lambda: read('other.example', 4711))
tries('literal', lambda: read('10.0.2.15', 4711))
tries('loopback', lambda: read('127.0.0.1', 4711))
tries('dns v4', lambda: asks(socket.AF_INET, '9.9.9.9'))
tries('dns v6', lambda: asks(socket.AF_INET6, '2001:db8::53'))
print('listeners:', sorted({int(l.split()[1].split(':')[1], 16) for f in ('tcp', 'tcp6') for l in open('/proc/net/' + f).readlines()[1:] if l.split()[3] == '0A'}))
P
ended=0
"$tree/deploy/cordon" run --allow host.internal:4711 --read /srv/probe/tries.py -- python3 /srv/probe/tries.py >"$out/tries" 2>&1 || ended=$?
said() { sed -n "s/^$1: //p" "$out/tries"; }
cat /var/lib/cordon/runs/*/records/*.jsonl >"$out/records"
recorded() { [ "$(grep "\"type\":\"$1\"" "$out/records" | grep -c "$2")" -gt 0 ] || { echo "no $1 with $2"; grep "\"type\":\"$1\"" "$out/records" | head -c 1500; return 1; }; } # recorded TYPE TEXT

promise 'cordon run --allow reaches that destination through the door' eval 'cat "$out/tries"; expect status "$ended" 0; expect allowed "$(said allowed)" "served 4711"'
promise 'nothing else that it tries is let through, and nothing of it arrives' eval '
  cat "$out/tries"; expect port "$(said "other port")" ECONNREFUSED; expect name "$(said "other name")" "no such name"
  case $(said literal) in reset | ECONNRESET) ;; *) exit 1 ;; esac; case $(said loopback) in reset | ECONNRESET) ;; *) exit 1 ;; esac
  expect arrived "$(cat "$arrived")" 4711
  exec 3<>/dev/tcp/127.0.0.1/4712; eventually 60 grep -qx 4712 "$arrived"' # the control: from outside it does
promise 'its names are answered inside, whatever resolver of either family it asks' eval 'cat "$out/tries"; expect v4 "$(said "dns v4")" 198.18.1; expect v6 "$(said "dns v6")" 198.18.1'
promise 'the door was attested, and inside its listeners are the only ones' eval '
  expect listeners "$(said listeners)" "[53, 4711]"; recorded isolation.attested "\"subject\":\"door\""'
promise 'each connection and each refusal is on record, with its reason' eval '
  recorded egress.opened "\"port\":4711"; recorded egress.closed host.internal; recorded dns.refused other.example
  recorded egress.refused literal-not-allowed; recorded egress.attempted :4712'
# What TCP may hold on this machine is made small, and then a plugin does not read what it asks for.
cat >/srv/probe/unread.py <<'P'
import select, socket, time
def dial(byte):
    s = socket.create_connection(('host.internal', 4713), 60)
    s.sendall(byte)
    return s
control = dial(b'e')
assert control.recv(1) == b'e'
held, gone, poll, end = [dial(b'f') for _ in range(24)], set(), select.poll(), time.time() + 90
for s in held: poll.register(s, 0)
while len(gone) < len(held) and time.time() < end: gone |= {fd for fd, _ in poll.poll(1000)}
control.sendall(b'e')
print('ended:', len(gone))
print('control:', control.recv(1).decode())
P
usual=$(cat /proc/sys/net/ipv4/tcp_mem)
echo '256 512 60000' >/proc/sys/net/ipv4/tcp_mem
"$tree/deploy/cordon" run --allow host.internal:4713 --read /srv/probe/unread.py -- python3 /srv/probe/unread.py >"$out/unread" 2>&1 || true
echo "$usual" >/proc/sys/net/ipv4/tcp_mem
cat /var/lib/cordon/runs/*/records/*.jsonl >"$out/records"
unread() { sed -n "s/^$1: //p" "$out/unread"; }
promise 'before TCP runs out of memory the door closes what a plugin does not read, and nothing else of it' eval '
  cat "$out/unread"; expect ended "$(unread ended)" 24; expect control "$(unread control)" e
  expect records "$(grep "\"type\":\"egress.closed\"" "$out/records" | grep -c "\"code\":\"unread\"")" 24'

promise 'nothing is left' eval '
  [ -z "$(find /sys/fs/cgroup -path "*run-r*" -prune -print -o -path "*/plugins*" -print)" ]; [ -z "$(ls -A /run/cordon 2>/dev/null)" ]; ! pgrep -x crun; ! pgrep -f door.cjs'
kill "$services"
