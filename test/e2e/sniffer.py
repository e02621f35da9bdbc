#!/usr/bin/python3
"""Says on stdout, one JSON line each, what arrives on one interface: the receiving side of a probe. sniffer.py INTERFACE

Whatever its protocol, a packet that is not named here did not arrive. Left out are only what the kernel itself sends to find
its neighbours (ARP, neighbour discovery, multicast reports), and what is sent from or to 127.0.0.9, by which the test itself calls.
"""
import json, socket, struct, sys

ETH_P_ALL, PACKET_OUTGOING, OWN = 3, 4, '127.0.0.9'
TYPES = {1: 'A', 2: 'NS', 5: 'CNAME', 10: 'NULL', 15: 'MX', 16: 'TXT', 28: 'AAAA', 65: 'HTTPS', 255: 'ANY'}


def question(data):
    """Labels as they stand on the wire, so that what hides in one shows."""
    labels, at = [], 12
    while at < len(data) and 0 < data[at] < 64:
        labels.append(data[at + 1:at + 1 + data[at]].decode('latin1'))
        at += 1 + data[at]
    kind = struct.unpack('>H', data[at + 1:at + 3])[0] if len(data) >= at + 3 else 0
    return '%s %s' % (TYPES.get(kind, kind), '.'.join(labels))


def transport(protocol, destination, data):
    if protocol == 6 and len(data) >= 20:
        port, flags, body = struct.unpack('>H', data[2:4])[0], data[13], data[(data[12] >> 4) * 4:]
        if flags & 0x12 == 2:
            yield 'tcp %s:%d opens' % (destination, port)
        if body:
            yield 'tcp %s:%d says %s' % (destination, port, body.decode('latin1'))
    elif protocol == 17 and len(data) >= 8:
        port = struct.unpack('>H', data[2:4])[0]
        yield 'udp %s:%d %s' % (destination, port, question(data[8:]) if port == 53 and len(data) > 20 else data[8:].decode('latin1'))
    elif protocol == 58 and data[:1] and 130 <= data[0] <= 143 or protocol == 2:
        return
    else:
        yield 'protocol %d %s %s' % (protocol, destination, data.decode('latin1'))


def packet(kind, data):
    if kind == 0x0806:
        return
    if kind == 0x0800 and len(data) >= 20:
        size, total, source, destination = (data[0] & 15) * 4, struct.unpack('>H', data[2:4])[0], socket.inet_ntop(socket.AF_INET, data[12:16]), socket.inet_ntop(socket.AF_INET, data[16:20])
        if OWN not in (source, destination):
            yield from transport(data[9], destination, data[size:total])
    elif kind == 0x86dd and len(data) >= 40:
        protocol, body = data[6], data[40:40 + struct.unpack('>H', data[4:6])[0]]
        while protocol in (0, 43, 60) and len(body) >= 8:  # extension headers
            protocol, body = body[0], body[8 + 8 * body[1]:]
        yield from transport(protocol, '[%s]' % socket.inet_ntop(socket.AF_INET6, data[24:40]), body)
    else:
        yield 'ethernet %04x %s' % (kind, data.decode('latin1'))


wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.ntohs(ETH_P_ALL))
wire.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
wire.bind((sys.argv[1], ETH_P_ALL))
print(json.dumps('ready'), flush=True)
while True:
    data, (_, kind, direction, _, _) = wire.recvfrom(65536)
    if direction != PACKET_OUTGOING:
        for line in packet(kind, data):
            print(json.dumps(line[:4000]), flush=True)
