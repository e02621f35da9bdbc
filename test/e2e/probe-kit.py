"""What a probe of egress-probes.test.ts may use, on both sides of the walls. SIDE is 'control' or 'walled'; QUIET is how long an
answer is waited for: behind the walls long, since a refusal comes at once and a slow machine must not pass for one."""
import os, socket, struct, time

OTHER = 'other.example'


def tcp(host, port, *chunks, end=False, quiet=None):
    """Connect, send each chunk in a segment of its own, and read until it is closed or quiet."""
    got = b''
    try:
        with socket.create_connection((host, port), 20) as s:
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for chunk in chunks:
                s.sendall(chunk)
                if len(chunks) > 1:
                    time.sleep(.01)
            if end:
                s.shutdown(socket.SHUT_WR)
            s.settimeout(QUIET if quiet is None else quiet)
            while True:
                more = s.recv(65536)
                if not more:
                    return 'closed after %r' % got
                got += more
    except OSError as error:
        return '%s after %r' % (error, got)


def links():
    try:
        return [(number, name) for number, name in socket.if_nameindex() if name != 'lo'] or [(1, 'lo')]
    except OSError:  # behind the walls: no netlink
        return [(1, 'lo')]


def udp(address, port, data=b'probe', **options):
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            if ':' in address and address.startswith('ff'):
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, links()[0][0])
            s.sendto(data, (address, port))
            return 'sent'
    except OSError as error:
        return str(error)


def address_of(name):
    return socket.getaddrinfo(name, 443, socket.AF_INET, socket.SOCK_STREAM)[0][4][0]


def name(*labels):
    return b''.join(bytes([len(label)]) + label for label in labels) + b'\0'


def question(wire, kind=1, klass=1, flags=0x100, questions=1, more=b'', additional=0):
    return struct.pack('>6H', 7, flags, questions, 0, 0, additional) + wire + struct.pack('>HH', kind, klass) + more


def resolver():
    return next(line.split()[1] for line in open('/etc/resolv.conf') if line.startswith('nameserver'))


def ask(message, server=None, over='udp', quiet=None):
    """@returns the response code and the count of answers"""
    server = server or resolver()
    family = socket.AF_INET6 if ':' in server else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM if over == 'udp' else socket.SOCK_STREAM) as s:
            s.settimeout(QUIET if quiet is None else quiet)
            s.connect((server, 53))
            s.send(message if over == 'udp' else struct.pack('>H', len(message)) + message)
            reply = s.recv(4096)[0 if over == 'udp' else 2:]
            return 'rcode %d, %d answers' % (reply[3] & 15, struct.unpack('>H', reply[6:8])[0]) if len(reply) >= 8 else 'no reply'
    except OSError as error:
        return str(error)


def opened(*kind):
    try:
        socket.socket(*kind).close()
        return 'opened'
    except OSError as error:
        return str(error)


def echo(family, kind, protocol, address, body):
    try:
        with socket.socket(family, kind, protocol) as s:
            s.sendto(body, (address, 0))
            return 'sent'
    except OSError as error:
        return str(error)


def packet():
    """A frame of a protocol of our own, past IP and every filter of it."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
            s.bind((links()[0][1], 0))
            s.send(b'\xff' * 6 + b'\x02' * 6 + b'\x88\xb5' + b'probe' * 10)
            return 'sent'
    except OSError as error:
        return str(error)


def unix(address):
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(address)
            return 'connected'
    except OSError as error:
        return str(error)
