"""What a plugin can do to the door; runs behind the walls and says one JSON line.
press.py VERB NAME ARG..., where NAME is an allowed name; the ports are those of the sink (see sink.ts)."""
import errno, json, os, random, resource, select, socket, struct, sys, threading, time

PORTS = (9000, 9001, 9002, 9003)
PAUSE = '/data/pause'
resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)


def dial(address, byte, n=0, timeout=60):
    s = socket.create_connection((address, PORTS[n % len(PORTS)]), timeout)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    s.sendall(byte)
    return s


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
    s.close()


def use(address, n):
    """One whole connection: opened, used, ended. Resets at the end, so that no TIME_WAIT uses up the ports of a long run."""
    s = dial(address, b'e', n)
    try:
        if s.recv(1) != b'e':
            raise OSError('not served')
    finally:
        reset(s)


def paused():
    """While that file exists, others are measured undisturbed."""
    while os.path.exists(PAUSE):
        time.sleep(0.02)


def resolve(name):
    return socket.getaddrinfo(name, PORTS[0], socket.AF_INET, socket.SOCK_STREAM)[0][4][0]


def times(_address, file, pause_ms):
    """Name, connection and use of it, one after the other until the file exists; when (CLOCK_MONOTONIC) each began and how long it took."""
    at, ms = [], []
    while not os.path.exists(file):
        start = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        use(resolve(name), len(ms))
        at.append(start // 1000000)
        ms.append((time.clock_gettime_ns(time.CLOCK_MONOTONIC) - start) // 1000 / 1000)
        time.sleep(float(pause_ms) / 1000)
    return {'at': at, 'ms': ms}


def row(address, count, at_once):
    """So many connections, one after the other in each of so many threads."""
    failed, start, lock, turn = [0], time.perf_counter(), threading.Lock(), iter(range(int(count)))

    def work():
        while True:
            with lock:
                n = next(turn, None)
            if n is None:
                return
            paused()
            try:
                use(address, n)
            except OSError:
                failed[0] += 1

    threads = [threading.Thread(target=work) for _ in range(int(at_once))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return {'failed': failed[0], 'seconds': time.perf_counter() - start}


def question(name):
    return struct.pack('>HHHHHH', random.getrandbits(16), 256, 1, 0, 0, 0) + b''.join(bytes([len(label)]) + label for label in name) + b'\0\0\1\0\1'


def names(address, count, zone, only=''):
    """As many random names as fast as they can be sent, over UDP in both families and over TCP; half of them below a zone that a rule allows."""
    socks = []
    for family, server in ((socket.AF_INET, '198.18.0.1'), (socket.AF_INET6, '2001:db8::53')):
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.connect((server, 53))
        s.setblocking(False)
        socks.append(s)
    zones = (tuple(label.encode() for label in zone.split('.')), (b'evil', b'example'))
    sent = turned_back = streams = 0
    start = time.perf_counter()
    for n in range(int(count)):
        if n % 256 == 0:
            paused()
        q = question((os.urandom(12).hex().encode(),) + zones[n % 2])
        try:
            if n % 1000 == 999 and only == '':
                s = socket.create_connection(('198.18.0.1', 53), 5)
                s.sendall(b''.join(struct.pack('>H', len(q)) + q for _ in range(100)))
                reset(s)
                streams += 1
            else:
                socks[n % 2].send(q)
                sent += 1
        except OSError:
            turned_back += 1
    return {'sent': sent, 'turned_back': turned_back, 'streams': streams, 'seconds': time.perf_counter() - start}


def hold(address, count, byte, file):
    """Opens so many and keeps them until the file exists; `e` waits for the echo first, other bytes are sent and nothing is read."""
    served = [dial(address, byte.encode(), n) for n in range(int(count))]
    if byte == 'e':
        for s in served:
            if s.recv(1) != b'e':
                raise OSError('not served')
    open(file + '.held', 'w').close()
    while not os.path.exists(file):
        time.sleep(0.05)
    return {'held': len(served)}


def one_more(address):
    """One more than there is room for: connected, it seems, but not served. Freed elsewhere, it is."""
    s = dial(address, b'e', 0)
    s.settimeout(2)
    try:
        early = s.recv(1).decode()
    except TimeoutError:
        early = None
    open('/data/waits', 'w').close()
    s.settimeout(60)
    return {'early': early, 'late': s.recv(1).decode()}


def chaos(address, count, seed):
    """Connections that end badly: reset at each stage, peers that reset or never answer, half closed, a hello that never ends."""
    pick, kept = random.Random(int(seed)), []
    outcomes = {}
    for n in range(int(count)):
        paused()
        kind = pick.choice(('reset at once', 'reset after a byte', 'reset by the peer', 'half closed', 'silent', 'begun hello', 'flood unread'))
        try:
            s = socket.create_connection((address, PORTS[n % 4]), 60)
            if kind == 'reset after a byte':
                s.sendall(b'e')
            elif kind == 'reset by the peer':
                s.sendall(b'x')
            elif kind == 'half closed':
                s.sendall(b'h')
                s.shutdown(socket.SHUT_WR)
            elif kind == 'begun hello':
                s.sendall(b'\x16\x03\x01\x02')
            elif kind == 'flood unread':
                s.sendall(b'f')
            kept.append(s)
            if len(kept) > 100:
                reset(kept.pop(pick.randrange(len(kept))))
            if kind == 'reset at once':
                reset(kept.pop())
            outcomes[kind] = outcomes.get(kind, 0) + 1
        except OSError as e:
            outcomes[errno.errorcode.get(e.errno, 'other')] = outcomes.get(errno.errorcode.get(e.errno, 'other'), 0) + 1
    for s in kept:
        reset(s)
    return outcomes


def burn(_address, seconds):
    """The control: so long all the processor time that it may have, and nothing asked of the door."""
    for _ in range(int(float(seconds) * 100)):
        paused()
        end = time.perf_counter() + 0.01
        while time.perf_counter() < end:
            pass
    return {'seconds': float(seconds)}


verb, name, *rest = sys.argv[1:]
address = resolve(name)
print(json.dumps({'times': times, 'row': row, 'names': names, 'hold': hold, 'one-more': one_more, 'chaos': chaos, 'burn': burn}[verb](address, *rest)), flush=True)
