#!/usr/bin/env python3
"""Checks an audit log of Cordon, or a proof about one record of it, without any of Cordon's own code.

  audit-verify.py [--key FINGERPRINT] [--with FILE]... [--witness FILE|KEY]... [--head SEQ:HASH] [--at TIME] [--json] DIR
  audit-verify.py [--key FINGERPRINT] [--json] --proof FILE
  audit-verify.py [--key FINGERPRINT] [--json] --evidence DIR

DIR holds the log as src/audit/FORMAT.md lays it out (`records/`, `checkpoint`, `tile/`, ...). Only public material is read.
Exit status: 0 whole, 2 tampered, 3 an end that cannot be verified, 4 whole, but not everything was recorded; 64 wrong use,
66 nothing to check. One file, Python 3.9 or newer, nothing else: copy it to where you trust Python. Ed25519 is done here in
plain Python, some milliseconds for each seal; that is slow for a log of years and says nothing else.

`--batch` reads one JSON object per line: {"dir", "key", "with", "witness", "head", "now": {"wallMs", "boot", "monoMs"}} or
{"proof", "key"} or {"evidence", "key"}; and prints one JSON object for each.
"""
import argparse
import base64
import errno
import functools
import hashlib
import json
import os
import re
import stat
import sys
import time
from datetime import datetime, timedelta, timezone

EXITS = {'whole': 0, 'tampered': 2, 'unverifiable-tail': 3, 'gap': 4}
MAX_LINE = 65535
MAX_WINDOW = 4 * 1024 * 1024
MAX_TORN = 8 * 1024 * 1024
MAX_LISTED = 1000
MAX_LEVELS = 32
MAX_SAFE = 2 ** 53 - 1
ZEROS = '0' * 64
NOT_SHOWN = ('What root can make of a log without leaving a trace in it (an older copy put back as a whole, a new log under the old name) '
             'shows only against something kept elsewhere: --key, --with, --witness or --head.')


# Ed25519, RFC 8032 section 5.1: edwards25519 in extended coordinates

P = 2 ** 255 - 19
L = 2 ** 252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)
NEUTRAL = (0, 1, 1, 0)


def point_add(a, b):
    x = (a[1] - a[0]) * (b[1] - b[0]) % P
    y = (a[1] + a[0]) * (b[1] + b[0]) % P
    t = 2 * a[3] * b[3] * D % P
    z = 2 * a[2] * b[2] % P
    e, f, g, h = y - x, z - t, z + t, y + x
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_double(a):
    x, y, z = a[0], a[1], a[2]
    xx, yy = x * x % P, y * y % P
    h = xx + yy
    e = h - (x + y) * (x + y) % P
    g = xx - yy
    f = 2 * z * z % P + g
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_decode(data):
    y = int.from_bytes(data, 'little')
    sign, y = y >> 255, y & ((1 << 255) - 1)
    if y >= P:
        return None
    xx = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(xx, (P + 3) // 8, P)
    if (x * x - xx) % P:
        x = x * SQRT_M1 % P
    if (x * x - xx) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


def point_encode(a):
    inverse = pow(a[2], P - 2, P)
    x, y = a[0] * inverse % P, a[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, 'little')


def table(a):
    multiples = [NEUTRAL, a]
    for _ in range(14):
        multiples.append(point_add(multiples[-1], a))
    return multiples


BASE = table(point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, 'little')))


@functools.lru_cache(maxsize=4096)
def ed25519_verifies(key, message, signature):
    """RFC 8032 section 5.1.7, without the cofactor."""
    if len(key) != 32 or len(signature) != 64:
        return False
    a = point_decode(key)
    s = int.from_bytes(signature[32:], 'little')
    if a is None or s >= L:
        return False
    eight = point_double(point_double(point_double(a)))
    if eight[0] % P == 0 and (eight[1] - eight[2]) % P == 0:  # of small order: anybody could sign for it
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), 'little') % L
    minus = table((P - a[0], a[1], 1, P - a[3]))
    r = NEUTRAL
    for shift in range(252, -1, -4):  # both scalars at once, four bits at a time
        for _ in range(4):
            r = point_double(r)
        if (s >> shift) & 15:
            r = point_add(r, BASE[(s >> shift) & 15])
        if (k >> shift) & 15:
            r = point_add(r, minus[(k >> shift) & 15])
    return point_encode(r) == signature[:32]


# RFC 6962 section 2.1

def sha256(data):
    return hashlib.sha256(data).digest()


def leaf_hash(line):
    return sha256(b'\0' + line)


def node_hash(left, right):
    return sha256(b'\1' + left + right)


class Tree:
    def __init__(self, on_tile):
        self.size = 0
        self.peaks = []
        self.tiles = []  # [hashes so far, index] for each level
        self.on_tile = on_tile

    def push(self, leaf):
        self.into_tile(0, leaf)
        height, n = 0, self.size
        while n & 1:
            leaf = node_hash(self.peaks[height], leaf)
            height += 1
            n >>= 1
            if height % 8 == 0:
                self.into_tile(height // 8, leaf)
        if height == len(self.peaks):
            self.peaks.append(leaf)
        else:
            self.peaks[height] = leaf
        self.size += 1

    def into_tile(self, level, value):
        if level == len(self.tiles):
            self.tiles.append([[], 0])
        tile = self.tiles[level]
        tile[0].append(value)
        if len(tile[0]) == 256:
            self.on_tile(level, tile[1], b''.join(tile[0]))
            tile[0] = []
            tile[1] += 1

    def root(self):
        root, n, height = None, self.size, 0
        while n:
            if n & 1:
                root = self.peaks[height] if root is None else node_hash(self.peaks[height], root)
            n >>= 1
            height += 1
        return sha256(b'') if root is None else root


def root_of_path(leaf, index, size, path):
    """RFC 9162 section 2.1.3.2. Returns None unless the path has the right length."""
    if index >= size:
        return None
    fn, sn, r = index, size - 1, leaf
    for p in path:
        if sn == 0:
            return None
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            r = node_hash(r, p)
        fn >>= 1
        sn >>= 1
    return r if sn == 0 else None


# One record

KEYS = ['boot', 'class_uid', 'data', 'mono_ms', 'origin', 'plugin', 'policy', 'prev', 'run', 'seq', 'time', 'type', 'v']
HEX64 = re.compile(r'[0-9a-f]{64}\Z')
HEX128 = re.compile(r'[0-9a-f]{128}\Z')
TIME = re.compile(r'(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{3})Z\Z', re.ASCII)
MONTHS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]


class NoRecord(Exception):
    pass


def sorted_object(pairs):
    keys = [key.encode('utf-16-be', 'surrogatepass') for key, _ in pairs]  # RFC 8785 section 3.2.3
    if any(a >= b for a, b in zip(keys, keys[1:])):
        raise NoRecord('keys are not sorted')
    return dict(pairs)


def refuse(_):
    raise NoRecord('a number is no integer')


def levels(value):
    if isinstance(value, dict):
        return 1 + max((levels(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((levels(item) for item in value), default=0)
    return 0


def in_range(value):
    if isinstance(value, dict):
        return all(in_range(item) for item in value.values())
    if isinstance(value, list):
        return all(in_range(item) for item in value)
    return not isinstance(value, int) or isinstance(value, bool) or -MAX_SAFE <= value <= MAX_SAFE


def is_count(value):
    return type(value) is int and 0 <= value <= MAX_SAFE


def is_hash(value):
    return isinstance(value, str) and HEX64.match(value) is not None


def instant(text):
    """Milliseconds since 1970, or None."""
    match = TIME.match(text) if isinstance(text, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second, ms = map(int, match.groups())
    if not 1 <= month <= 12 or hour > 23 or minute > 59 or second > 59:
        return None
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= MONTHS[month - 1] + (1 if leap and month == 2 else 0):
        return None
    y = year - 1 if month <= 2 else year
    days = y * 365 + y // 4 - y // 100 + y // 400 + (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1 - 719468
    return ((days * 24 + hour) * 60 + minute) * 60000 + second * 1000 + ms


def iso(ms):
    if ms < -62135596800000:  # datetime begins with the year 1, records with the year 0
        return iso(ms + 12622780800000).replace('0400', '0000', 1)
    return (datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(milliseconds=ms)).isoformat()[:19] + '.%03dZ' % (ms % 1000)


def read_record(line):
    """The record on one line (bytes without the newline). Raises NoRecord."""
    if len(line) > MAX_LINE:
        raise NoRecord('the line has %d bytes, at most %d are allowed' % (len(line), MAX_LINE))
    try:
        text = line.decode('utf-8')
        record = json.loads(text, object_pairs_hook=sorted_object, parse_float=refuse, parse_constant=refuse)
        if not isinstance(record, dict) or list(record) != KEYS or levels(record) > MAX_LEVELS or not in_range(record):
            raise NoRecord('the record does not have the form of version 1')
        same = json.dumps(record, ensure_ascii=False, separators=(',', ':')) == text
    except (ValueError, RecursionError) as error:
        raise NoRecord('the line is not JSON in UTF-8') from error
    if not same:
        raise NoRecord('the record is not in its canonical form')
    r = record
    fits = (r['v'] == 1 and type(r['v']) is int and all(is_count(r[key]) for key in ('class_uid', 'mono_ms', 'seq'))
            and all(isinstance(r[key], str) and r[key] for key in ('boot', 'origin', 'type'))
            and all(r[key] is None or isinstance(r[key], str) for key in ('plugin', 'policy', 'run'))
            and is_hash(r['prev']) and isinstance(r['data'], dict))
    r['time_ms'] = instant(r['time'])
    if not fits or r['time_ms'] is None:
        raise NoRecord('a field of the record is not of its type')
    return r


def genesis_of(data):
    if set(data) != {'first_key', 'interval_s', 'log_key', 'origin'} or not is_hash(data['first_key']) or not is_hash(data['log_key']):
        return None
    first = bytes.fromhex(data['first_key'])
    if not is_interval(data['interval_s']) or data['origin'] != 'cordon-audit/' + sha256(first).hex()[:16]:
        return None
    return {'first_key': first, 'log_key': bytes.fromhex(data['log_key']), 'origin': data['origin'], 'fingerprint': fingerprint(first), 'interval_s': data['interval_s']}


def is_interval(value):
    return is_count(value) and 1 <= value <= 86400


def fingerprint(key):
    return 'SHA256:' + base64.b64encode(sha256(key)).decode().rstrip('=')


def seal_fits(data):
    return (set(data) == {'epoch', 'interval_s', 'next_key', 'prev_seal', 'root', 'sig', 'size', 'why'} and is_count(data['epoch']) and is_count(data['size'])
            and is_interval(data['interval_s']) and all(is_hash(data[key]) for key in ('next_key', 'prev_seal', 'root'))
            and isinstance(data['sig'], str) and HEX128.match(data['sig']) is not None
            and data['why'] in ('open', 'interval', 'count', 'rotate', 'close', 'ask'))


def seal_signed(line, data, key):
    cut = b'"sig":"' + data['sig'].encode() + b'",'
    at = line.find(cut)
    return at >= 0 and ed25519_verifies(key, b'cordon-seal/v1\n' + line[:at] + line[at + len(cut):], bytes.fromhex(data['sig']))


# Signed notes, c2sp.org/signed-note

MAX_CHECKPOINT = 16 * 1024
NAME = r'[^\s\x00-\x1f\x85\ufeff+]{1,200}'  # spelled out: each language has its own \s
NOTE = re.compile(r'(%s)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n\n((?:\u2014 %s [A-Za-z0-9+/]+={0,2}\n)+)\Z' % (NAME, NAME))
VKEY = re.compile(r'(%s)\+([0-9a-f]{8})\+([A-Za-z0-9+/]{44})\Z' % NAME)


def strict_base64(text):
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == text else None


def key_id(name, kind, key):
    return sha256(name.encode() + b'\n' + bytes([kind]) + key)[:4]


def parse_checkpoint(data):
    try:
        text = data.decode('utf-8')
    except UnicodeDecodeError:
        return None
    match = NOTE.match(text) if len(text) <= MAX_CHECKPOINT else None
    if match is None:
        return None
    origin, digits, root, lines = match.groups()
    signatures = []
    for line in lines.split('\n')[:-1]:
        _, name, encoded = line.split(' ')
        value = strict_base64(encoded)
        if value is None or len(value) < 5:
            return None
        signatures.append((name, value[:4], value[4:]))
    root_bytes = strict_base64(root)
    if root_bytes is None or int(digits) > MAX_SAFE:
        return None
    return {'origin': origin, 'size': int(digits), 'root': root_bytes, 'text': ('%s\n%s\n%s\n' % (origin, digits, root)).encode(), 'signatures': signatures}


def signed_by(checkpoint, name, key):
    own = [value for found, kid, value in checkpoint['signatures'] if found == name and kid == key_id(name, 1, key)]
    return bool(own) and all(ed25519_verifies(key, checkpoint['text'], value) for value in own)


def cosigned_at(checkpoint, witness):
    name, key = witness
    newest = None
    for found, kid, value in checkpoint['signatures']:
        if found != name or kid != key_id(name, 4, key) or len(value) != 72:
            continue
        seconds = int.from_bytes(value[:8], 'big')
        if seconds > MAX_SAFE or not ed25519_verifies(key, b'cosignature/v1\ntime %d\n' % seconds + checkpoint['text'], value[8:]):
            return None
        newest = max(newest or 0, seconds)
    return newest


def parse_vkey(text):
    match = VKEY.match(text)
    data = strict_base64(match.group(3)) if match else None
    if data is None or len(data) != 33 or data[0] not in (1, 4) or key_id(match.group(1), data[0], data[1:]).hex() != match.group(2):
        return None
    return (match.group(1), data[1:]) if data[0] == 4 else None


# Checkpoints in any text

MARK = r'(?:[\s\x1c-\x1f\x85\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff>|*_"\'\x60,;]|\\[nrt]|<[^<>]{0,40}>|&gt;|&nbsp;)'
BETWEEN = r'(?:' + MARK + r'{1,60}|\r?\n[^\n]{1,120}?[\s\x1c-\x1f\x85\ufeff:>\])])'
HEAD = re.compile(r'(cordon-audit/[0-9a-f]{16})' + BETWEEN + r'(0|[1-9][0-9]{0,15})' + BETWEEN + r'([A-Za-z0-9+/]{43}=)')
MARKS = re.compile(MARK + '+')
BASE64_BLOCK = re.compile(r'(?:^[A-Za-z0-9+/]{60,76}\r?\n)+[A-Za-z0-9+/]{0,76}={0,2}', re.M)
REACH = 6000


def decodings(text):
    for one in carried(text):
        yield one
        yield from written(one)


def carried(text):
    yield text
    if re.search(r'=(?:\r?\n|3D|E2=80=94)', text):
        yield re.sub(r'=([0-9A-Fa-f]{2})', lambda m: chr(int(m.group(1), 16)), re.sub(r'=[ \t]*\r?\n', '', text))
    for match in BASE64_BLOCK.finditer(text):
        block = re.sub(r'\s', '', match.group(0)).rstrip('=')
        inside = base64.b64decode(block[:len(block) // 4 * 4] + (block[len(block) // 4 * 4:] + '==' if len(block) % 4 > 1 else '')[:4]).decode('utf-8', 'replace')
        if 'cordon-audit' in inside:
            yield inside
    if 'c\0o\0r\0d\0o\0n\0' in text:  # UTF-16
        yield text.replace('\0', '')


def written(text):
    if '\\' in text:
        yield (re.sub(r'\\u([0-9A-Fa-f]{4})', lambda m: chr(int(m.group(1), 16)), text)
               .replace('\\/', '/').replace('\\\\n', '\n').replace('\\n', '\n').replace('\\r', ''))
    if re.search(r'&#(?:[0-9]|[xX][0-9a-fA-F])', text):
        yield re.sub(r'&#(?:([0-9]{1,5})|[xX]([0-9A-Fa-f]{1,4}));', lambda m: chr(int(m.group(1)) if m.group(1) else int(m.group(2), 16)), text)


def signatures_of(after, name, length):
    found = []
    at = after.find(name)
    while at >= 0 and len(found) < 4:
        rest = after[at + len(name):at + len(name) + length + 100]
        if not re.match(r'[A-Za-z0-9+/]', rest):
            encoded = MARKS.sub('', rest)[:length]
            value = strict_base64(encoded) if len(encoded) == length else None
            if value is not None:
                found.append((name, value[:4], value[4:]))
        at = after.find(name, at + len(name))
    return found


def find_saved(path, names):
    with open(path, 'rb') as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Unusable('%s is no regular file' % path)
        carry = b''
        while True:
            chunk = file.read(MAX_WINDOW)
            if not chunk:
                return
            window = carry + chunk
            for form in decodings(window.decode('utf-8', 'replace')):
                heads = list(HEAD.finditer(form))
                for index, match in enumerate(heads):
                    origin, digits, root = match.groups()
                    root_bytes = strict_base64(root)
                    if root_bytes is None or int(digits) > MAX_SAFE:
                        continue
                    end = heads[index + 1].start() if index + 1 < len(heads) else len(form)
                    after = form[match.end():min(match.end() + REACH, end)]
                    signatures = signatures_of(after, origin, 92) + signatures_of(after, origin + '/epoch', 92)
                    for name in names:
                        signatures += signatures_of(after, name, 104)
                    yield {'origin': origin, 'size': int(digits), 'root': root_bytes, 'text': ('%s\n%s\n%s\n' % (origin, digits, root)).encode(), 'signatures': signatures}
            carry = window[-65536:]


# Files

class Unusable(Exception):
    """Nothing that could be checked."""


class Gone(Exception):
    """Retention removed a segment while we came to it."""


def read_small(path, limit):
    """Bytes of a regular file; None: there is none; a str: why it cannot be one of ours."""
    try:
        fd = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if fd is None:
        return 'it is no regular file'
    with os.fdopen(fd, 'rb') as file:
        size = os.fstat(fd).st_size
        return 'it has %d bytes, at most %d are expected' % (size, limit) if size > limit else file.read(limit)


def open_regular(path):
    """A descriptor; None: something else than a regular file has that name (a symbolic link too)."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.ENODEV):
            return None
        raise
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


class NotRegular(OSError):
    pass


class Lines:
    """Lines of one file up to `limit` bytes, as (kind, line, number, offset)."""

    def __init__(self, path, limit):
        fd = open_regular(path)
        if fd is None:
            raise NotRegular(path + ' is no regular file')
        self.file = os.fdopen(fd, 'rb', 1 << 20)
        self.limit = min(limit, os.fstat(fd).st_size)
        self.number = 0
        self.offset = 0
        self.next_offset = 0

    def next(self):
        self.number += 1
        self.offset = self.next_offset
        line = self.file.readline(min(MAX_WINDOW + 1, self.limit - self.offset)) if self.limit > self.offset else b''
        self.next_offset += len(line)
        if line.endswith(b'\n'):
            return 'line', line[:-1]
        if not line:
            return 'none', line
        return ('long', line) if len(line) > MAX_WINDOW and self.next_offset < self.limit else ('rest', line)


def tile_path(level, index):
    parts = ['%03d' % (index % 1000)]
    index //= 1000
    while index:
        parts.insert(0, 'x%03d' % (index % 1000))
        index //= 1000
    return '%d/%s' % (level, '/'.join(parts))


def widths(root, level, index):
    try:
        names = os.listdir(os.path.join(root, tile_path(level, index) + '.p'))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if re.match(r'[1-9][0-9]{0,2}\Z', name) and int(name) < 256)


def tile_leaves(root, count):
    """Leaf hashes out of the tiles of level 0. Raises NoTile."""
    for index in range((count + 255) // 256):
        width = min(256, count - index * 256)
        name = tile_path(0, index)
        tile = read_small(os.path.join(root, name), 8192)
        if tile is None or (isinstance(tile, bytes) and len(tile) != 8192):
            size = None if tile is None else len(tile)
            for w in widths(root, 0, index):
                part = read_small(os.path.join(root, '%s.p/%d' % (name, w)), 8192) if w >= width else None
                if isinstance(part, str) or (part is not None and len(part) == w * 32):
                    name, tile, size = '%s.p/%d' % (name, w), part, 8192
                    break
            if size is None:
                raise NoTile('tile/' + name, 'it is missing, and the records that it stands for were removed')
            if size != 8192:
                raise NoTile('tile/' + name, 'it has %d bytes, expected 8192, and the records that it stands for were removed' % size)
        if isinstance(tile, str):
            raise NoTile('tile/' + name, tile)
        for i in range(width):
            yield tile[i * 32:i * 32 + 32]


class NoTile(Exception):
    def __init__(self, name, problem):
        super().__init__(problem)
        self.name = name


BEYOND = 'the tile lies beyond the end of the log: records are missing there'


class TileCheck:
    def __init__(self, root, needed):
        self.root, self.needed, self.fault = root, needed, None

    def fail(self, level, index, name, problem):
        if self.fault is None:
            self.fault = {'seq': index * 256 ** (level + 1), 'file': 'tile/' + name, 'line': 0, 'offset': 0, 'problem': problem}

    def compare(self, level, index, hashes, grown=False):
        if self.fault is not None:
            return
        name = tile_path(level, index)
        widest = 0
        full = read_small(os.path.join(self.root, name), 8192)
        wanted = min(len(hashes) // 32, max(0, self.needed // 256 ** level - index * 256))
        if full is not None and (isinstance(full, str) or len(full) == 8192 or wanted == 256):
            widest = 256
            self.same(level, index, name, 256, full, hashes, grown)
        for w in widths(self.root, level, index):
            partial = read_small(os.path.join(self.root, '%s.p/%d' % (name, w)), 8192)
            if partial is None or (isinstance(partial, bytes) and len(partial) != w * 32 and w != wanted):
                continue  # replaced just now, under way, or what a crash left: no checkpoint needs it yet
            self.same(level, index, '%s.p/%d' % (name, w), w, partial, hashes, grown)
            widest = max(widest, w)
        if widest < wanted:
            self.fail(level, index, name + ('.p/%d' % wanted if wanted < 256 else ''), 'the tile is missing, although the checkpoint needs it')

    def beyond(self, level, index):
        name = tile_path(level, index)
        if self.fault is None and (read_small(os.path.join(self.root, name), 8192) is not None or widths(self.root, level, index)):
            self.fail(level, index, name, BEYOND)

    def same(self, level, index, name, width, data, hashes, grown):
        if isinstance(data, str):
            return self.fail(level, index, name, data)
        if len(data) != width * 32:
            return self.fail(level, index, name, 'the tile has %d bytes, expected %d' % (len(data), width * 32))
        common = min(len(data), len(hashes))
        if data[:common] != hashes[:common]:
            self.fail(level, index, name, 'the tile does not hold the hashes of the records')
        elif len(data) > len(hashes) and not grown:
            self.fail(level, index, name, BEYOND)


# The walk over a log

def limit_ms(interval_s):
    return 2 * interval_s * 1000 + 10000


class Walk:
    def __init__(self, directory, evidence, options):
        self.evidence, self.options = evidence, options
        self.now = options.get('now') or this_moment()
        disk = evidence['disk']
        self.tiles = TileCheck(os.path.join(directory, 'tile'), disk['size'] if disk else 0)
        self.tree = Tree(lambda level, index, hashes: self.tiles.compare(level, index, hashes))
        self.file = 'records'
        self.last_leaf = None
        self.last = None  # the record taken last
        self.last_at = None
        self.end_offset = 0
        self.key = None
        self.seal = None
        self.epochs = 0
        self.first_unsealed = None
        self.genesis_limit = 0
        self.prunes = []
        self.removed_count = 0
        self.removed_leaf = None
        self.kept_seq = None
        self.kept_line = b''
        self.kept_record = None
        self.next_claim = 0
        self.saved_confirmed, self.saved_size, self.head_confirmed = 0, None, False
        self.torn = None
        self.suspicion = None
        self.first_bad = None
        self.believed = 0
        self.tail = None
        self.expected = 0
        self.missing, self.gaps, self.pauses, self.notes = [], [], [], list(evidence['notes'])
        self.gap_count = 0
        self.clock_steps = 0
        genesis, pin = evidence['genesis'], options.get('key')
        if pin and (genesis is None or genesis['fingerprint'] != pin):
            begins = 'the log begins with the key ' + genesis['fingerprint'] if genesis else 'no first record names the key of the log'
            self.bad(finding(0, 'records', 0, 0, '%s, expected %s: this is not the log that the key was noted of' % (begins, pin)), 0)
        if evidence['saved_fault']:
            self.bad(finding(0, 'records', 0, 0, evidence['saved_fault']), 0)
        self.compare_claims()

    # records that were removed

    def advance_kept(self, kept):
        before = -1 if self.kept_seq is None else self.kept_seq
        self.kept_seq = None
        if kept is None or self.first_bad:
            return
        kind, line = kept.next()
        if kind in ('none', 'rest'):
            return
        try:
            record = read_record(line) if kind == 'line' else None
        except NoRecord as error:
            return self.bad_kept(kept, self.tree.size, str(error))
        if record is None:
            return self.bad_kept(kept, self.tree.size, 'the line is too long')
        if record['seq'] <= before:
            return self.bad_kept(kept, record['seq'], 'record %d stands behind record %d' % (record['seq'], before))
        self.kept_seq, self.kept_line, self.kept_record = record['seq'], line, record

    def bad_kept(self, kept, seq, problem):
        self.bad(finding(seq, 'seals.jsonl', kept.number, kept.offset, problem))

    def walk_removed(self, directory, first, kept):
        self.advance_kept(kept)
        if self.kept_seq != 0 and not self.first_bad:
            self.miss(0, first - 1)
            self.bad(finding(0, 'seals.jsonl', 1, 0, 'records were removed from the beginning, and the first record of the log was not kept here'))
        try:
            for leaf in tile_leaves(os.path.join(directory, 'tile'), first):
                if self.first_bad:
                    break
                self.removed(leaf, kept)
        except NoTile as error:
            self.bad(finding(self.tree.size, error.name, 0, 0, str(error)))
        self.removed_count = first
        self.expected = max(self.expected, first)
        self.removed_leaf = self.last_leaf
        self.first_unsealed = None

    def removed(self, leaf, kept):
        seq = self.tree.size
        if self.kept_seq == seq:
            record = self.kept_record
            if leaf_hash(self.kept_line) != leaf:
                return self.bad_kept(kept, seq, 'this line is not the record that stood there: the tile has another hash')
            if record['type'] not in ('log.created', 'seal', 'log.pruned'):
                return self.bad_kept(kept, seq, 'a record of another type is not kept here')
            problem = self.special(record, self.kept_line, leaf)
            if problem:
                return self.bad_kept(kept, seq, problem)
            self.advance_kept(kept)
        self.push(leaf)

    def end_kept(self, kept):
        if self.first_bad or kept is None:
            return
        if self.removed_count == 0 and self.kept_seq is None:
            self.advance_kept(kept)
        if self.kept_seq is not None and self.kept_seq >= self.tree.size:
            self.bad_kept(kept, self.tree.size, 'this line is record %d, which the log does not reach: newer records were cut off' % self.kept_seq)

    # records in segments

    def begin_segment(self, first, name):
        self.file = name
        if first > self.expected:
            self.miss(self.expected, first - 1)
        if not self.first_bad and self.suspicion is None and first != self.tree.size:
            self.bad(finding(self.tree.size, name, 0, 0, 'the segment begins with record %d, expected %d' % (first, self.tree.size)))
        self.expected = max(self.expected, first)

    def end_segment(self, last):
        damage = self.torn['finding'] if self.torn else self.tail
        if damage and not last:
            self.bad(damage)
        self.end_offset = 0

    def line(self, lines, kind, line, kept):
        record, problem = None, 'a line of more than %d bytes' % MAX_WINDOW
        if kind == 'line':
            try:
                record = read_record(line)
            except NoRecord as error:
                problem = str(error)
        at = finding(self.tree.size, self.file, lines.number, lines.offset, problem)
        if self.suspicion:
            self.resolve(record)
        elif self.first_bad:
            self.count(record)
        elif kind == 'rest':
            if not (self.torn and self.torn['holds']):
                self.torn = None
                self.tail = dict(at, problem='the last line is not finished: %d bytes without a newline' % len(line))
        elif self.torn:
            self.inside_torn(record, line, at, kind, kept)
        elif record:
            self.take(record, line, at, kept)
        elif kind == 'long':
            self.bad(at)
        else:
            self.torn = {'finding': at, 'digest': hashlib.sha256(line), 'bytes': len(line), 'holds': False}

    def take(self, record, line, at, kept):
        seq = self.tree.size
        if record['seq'] != seq:
            found = record['seq']
            what = '%d missing, or its seq was changed' % (found - seq) if found > seq else 'a repeated, moved or inserted record'
            self.bad(dict(at, problem='seq %d stands where %d was expected: %s' % (found, seq, what)))
            return self.count(record)
        self.expected = seq + 1
        leaf = leaf_hash(line)
        if record['prev'] != (self.last_leaf.hex() if self.last_leaf else ZEROS):
            later = dict(at, problem='its prev is not the hash of the record before it')
            if self.last_at is None:
                return self.bad(later)
            earlier = dict(self.last_at, problem='it was changed: the next record was chained to other bytes')
            self.suspicion = (earlier, later, leaf.hex())
            return None
        if self.last and record['boot'] == self.last['boot'] and record['mono_ms'] < self.last['mono_ms']:
            return self.bad(dict(at, problem='mono_ms %d is before the %d of the record before it, in the same boot' % (record['mono_ms'], self.last['mono_ms'])))
        head = self.options.get('head')
        if head and head['seq'] == seq:
            if head['hash'] != leaf.hex():
                return self.bad(dict(at, problem='it is not the record whose hash was remembered'))
            self.head_confirmed = True
        if seq == 0 and self.removed_count == 0:
            self.advance_kept(kept)
        if self.kept_seq == seq and not self.first_bad:
            if self.kept_line != line:
                return self.bad_kept(kept, seq, 'this line differs from the record in its segment')
            self.advance_kept(kept)
        if self.first_bad:
            return None
        problem = self.special(record, line, leaf)
        if problem:
            return self.bad(dict(at, problem=problem), (self.seal['seq'] + 1 if self.seal else 0) if record['type'] == 'seal' else seq)
        if record['type'] != 'seal' and self.first_unsealed is None:
            self.first_unsealed = record
        if self.last and record['time_ms'] < self.last['time_ms'] - 1000:
            self.clock_steps += 1
        self.last = record
        self.last_at = at
        self.end_offset = at['offset'] + len(line) + 1
        return self.push(leaf)

    def push(self, leaf):
        self.tree.push(leaf)
        self.last_leaf = leaf
        self.expected = self.tree.size
        self.compare_claims()

    def compare_claims(self):
        claims, disk, genesis = self.evidence['claims'], self.evidence['disk'], self.evidence['genesis']
        while self.next_claim < len(claims) and claims[self.next_claim]['size'] == self.tree.size:
            claim = claims[self.next_claim]
            self.next_claim += 1
            if claim['root'] != self.tree.root():
                return self.bad_claim(claim, 'it was made for the first %d records, and they are not the same any more: its root is not theirs' % claim['size'])
            if claim['saved']:
                self.saved_confirmed += 1
                self.saved_size = claim['size']
            elif claim['source'] == 'checkpoint':
                if not self.seal or self.seal['seq'] + 1 != claim['size']:
                    return self.bad_claim(claim, 'it is for %d records, and the last of them is no seal' % claim['size'])
                if not signed_by(disk, genesis['origin'] + '/epoch', bytes.fromhex(self.seal['next_key'])):
                    return self.bad_claim(claim, 'it is not signed by the key of the epoch that its seal announces')
        return None

    def bad_claim(self, claim, problem):
        if claim['saved']:
            self.bad(finding(max(0, claim['size'] - 1), 'records', 0, 0, 'a checkpoint in %s: %s' % (claim['source'], problem)), 0)
        else:
            self.bad(finding(max(0, claim['size'] - 1), claim['source'], 0, 0, problem), 0)

    # records of the log itself

    def special(self, record, line, leaf):
        seq, kind, data = record['seq'], record['type'], record['data']
        if (seq == 0) != (kind == 'log.created'):
            return 'the first record of a log must be log.created' if seq == 0 else 'log.created stands only at the beginning of a log'
        if kind == 'log.created':
            genesis = genesis_of(data)
            if genesis is None:
                return 'its data is not that of log.created'
            if genesis != self.evidence['genesis']:
                return 'it is not the log.created that the checkpoints were compared with'
            self.key = genesis['first_key']
            self.genesis_limit = limit_ms(genesis['interval_s'])
        elif kind == 'gap':
            self.gap_count += 1
            if len(self.gaps) < MAX_LISTED:
                self.gaps.append({'seq': seq, 'time': record['time'], 'reason': data.get('reason') if isinstance(data.get('reason'), str) else '(none)', 'data': data})
        elif kind == 'log.pruned':
            if (set(data) != {'bytes', 'first', 'last_leaf', 'next', 'sha256'} or not all(is_count(data[key]) for key in ('bytes', 'first', 'next'))
                    or not is_hash(data['last_leaf']) or not is_hash(data['sha256']) or not data['first'] < data['next'] <= seq):
                return 'its data is not that of log.pruned'
            if len(self.prunes) >= 1000000:
                return 'more than 1000000 log.pruned records'
            self.prunes.append((data['first'], data['next'], data['last_leaf'], seq))
        elif kind == 'seal':
            return self.take_seal(record, line, data, leaf)
        return None

    def take_seal(self, record, line, data, leaf):
        seq, before = record['seq'], self.seal
        if not seal_fits(data):
            return 'its data is not that of a seal'
        since = 'records %d to %d cannot be believed' % (before['seq'] + 1 if before else 0, seq)
        if data['epoch'] != self.epochs:
            return 'it is the seal of epoch %d, expected %d: seals are missing, or it was made up; %s' % (data['epoch'], self.epochs, since)
        if data['size'] != seq:
            return 'it seals %d records and stands behind %d; %s' % (data['size'], seq, since)
        if data['prev_seal'] != (before['leaf'] if before else ZEROS):
            return 'it does not follow the seal before it; ' + since
        if not seal_signed(line, data, self.key or b''):
            return 'the seal of epoch %d is not signed by the key that was announced for it; %s' % (data['epoch'], since)
        if data['root'] != self.tree.root().hex():
            return 'its root is not that of the records before it; ' + since
        if before and before['why'] != 'close':
            pause = record['mono_ms'] - before['mono_ms']
            if before['boot'] == record['boot'] and pause > before['limit_ms'] and len(self.pauses) < MAX_LISTED:
                self.pauses.append({'seq': before['seq'], 'seconds': (pause + 500) // 1000})
            if before['boot'] != record['boot'] and len(self.notes) < MAX_LISTED:
                self.notes.append('the boot before record %d ended without a closing seal (power loss, or a crash); its last seal is record %d' % (seq, before['seq']))
        self.seal = {'seq': seq, 'epoch': data['epoch'], 'why': data['why'], 'limit_ms': limit_ms(data['interval_s']), 'leaf': leaf.hex(), 'next_key': data['next_key'],
                     'boot': record['boot'], 'mono_ms': record['mono_ms'], 'time_ms': record['time_ms']}
        self.key = bytes.fromhex(data['next_key'])
        self.epochs += 1
        self.first_unsealed = None
        return None

    # damage

    def inside_torn(self, record, line, at, kind, kept):
        torn = self.torn
        if record and record['type'] == 'gap' and record['data'].get('reason') == 'torn-line' and isinstance(record['data'].get('torn'), dict):
            claim = record['data']['torn']
            ended = torn['digest'].copy()
            ended.update(b'\n')
            found = [(torn['bytes'], torn['digest'].hexdigest()), (torn['bytes'] + 1, ended.hexdigest())]
            counts = type(claim.get('offset')) is int and type(claim.get('bytes')) is int  # True is 1 here
            if counts and claim['offset'] == torn['finding']['offset'] and (claim['bytes'], claim.get('sha256')) in found:
                self.torn = None
                return self.take(record, line, dict(at, seq=self.tree.size), kept)
        torn['digest'].update(b'\n' + line)
        torn['bytes'] += 1 + len(line)
        torn['holds'] = torn['holds'] or record is not None
        if kind == 'long' or torn['bytes'] > MAX_TORN:
            self.bad(torn['finding'])
        return None

    def resolve(self, record):
        earlier, later, later_leaf = self.suspicion
        self.suspicion = None
        head = self.options.get('head')
        if (record and record['prev'] == later_leaf) or (head and head['seq'] == later['seq'] and head['hash'] == later_leaf):
            self.bad(earlier)
        elif record is None:
            self.bad(dict(earlier, problem='it, or the prev of the record after it, was changed: they do not fit'))
        else:
            self.bad(later)
        self.expected = max(self.expected, later['seq'] + 1)
        self.count(record)

    def count(self, record):
        if record:
            if record['seq'] > self.expected:
                self.miss(self.expected, record['seq'] - 1)
            self.expected = max(self.expected, record['seq'] + 1)

    def miss(self, first, last):
        if len(self.missing) < MAX_LISTED:
            self.missing.append({'from': first, 'to': last})

    def bad(self, found, believed=None):
        if self.first_bad is None:
            self.first_bad = found
            self.believed = found['seq'] if believed is None else believed

    # the end

    def end(self, empty, grown):
        if self.suspicion:
            self.resolve(None)
        if self.torn:
            self.bad(self.torn['finding'])
        if not self.first_bad:
            self.judge_whole(empty, grown)
        if not self.first_bad:
            self.judge_tail()
        genesis, seal, size = self.evidence['genesis'], self.seal, self.tree.size
        gap = self.gap_count > 0 or bool(self.pauses)
        unsealed = max(0, size - (seal['seq'] + 1 if seal else self.removed_count))
        return {
            'verdict': 'tampered' if self.first_bad else 'unverifiable-tail' if self.tail else 'gap' if gap else 'whole',
            'records': self.believed if self.first_bad else size, 'firstBad': self.first_bad or self.tail, 'missing': self.missing,
            'pruned': {'from': 0, 'to': self.removed_count - 1} if self.removed_count else None,
            'gaps': self.gaps, 'gapCount': self.gap_count, 'pauses': self.pauses, 'clockSteps': self.clock_steps,
            'origin': genesis['origin'] if genesis else None, 'fingerprint': genesis['fingerprint'] if genesis else None,
            'keyConfirmed': bool(genesis and self.options.get('key') == genesis['fingerprint']),
            'lastSealed': {'seq': seal['seq'], 'epoch': seal['epoch'], 'time': iso(seal['time_ms']), 'why': seal['why']} if seal else None,
            'lastWitnessed': list(self.evidence['witnessed'].values()),
            'unsealed': {'records': unsealed, 'seconds': max(0, round(self.age(self.first_unsealed) / 1000)) if self.first_unsealed else 0},
            'lastTime': self.last['time'] if self.last else None, 'lastHash': self.last_leaf.hex() if self.last_leaf else None,
            'headConfirmed': self.head_confirmed, 'savedConfirmed': self.saved_confirmed, 'savedSize': self.saved_size, 'notes': self.notes,
        }

    def judge_whole(self, empty, grown):
        size, claims, head = self.tree.size, self.evidence['claims'], self.options.get('head')
        last = self.last_at or finding(0, 'records', 0, 0, '')
        end = finding(size, last['file'], last['line'] + 1, self.end_offset, '')
        if self.next_claim < len(claims):
            claim = claims[self.next_claim]
            self.miss(size, claim['size'] - 1)
            source = 'a checkpoint in ' + claim['source'] if claim['saved'] else claim['source']
            return self.bad(dict(end, problem='the log ends here, but %s was made for %d records: newer records were cut off' % (source, claim['size'])))
        if head and not self.head_confirmed:
            self.bad(dict(end, problem='record %d, which was remembered, is not in the log' % head['seq']))
        if self.evidence['disk_fault']:
            self.bad(finding(size, 'checkpoint', 0, 0, self.evidence['disk_fault']))
        if self.removed_count:
            self.judge_removed()
        if not self.tiles.fault:
            before = grown()
            self.judge_tiles(before)
            if self.tiles.fault and not before and grown():  # a seal made in this very moment
                self.tiles.fault = None
                self.judge_tiles(True)
        if self.tiles.fault:
            self.bad(self.tiles.fault, size)
        if empty and self.evidence['genesis']:
            self.bad(dict(end, problem='every segment is gone'))
        return None

    def judge_tiles(self, grown):
        for level, (hashes, index) in enumerate(self.tree.tiles):
            self.tiles.compare(level, index, b''.join(hashes), grown)
            if not grown and hashes:
                self.tiles.beyond(level, index + 1)
        if not grown:
            self.tiles.beyond(len(self.tree.tiles), 0)

    def judge_removed(self):
        covered = 0
        sealed = [one for one in self.prunes if self.seal and one[3] <= self.seal['seq']]
        for _, following, last_leaf, seq in sealed:
            if following == self.removed_count and self.removed_leaf and last_leaf != self.removed_leaf.hex():
                return self.bad(finding(seq, 'records', 0, 0, 'its last_leaf is not the hash of the last removed record'))
        for first, following, _, _ in sorted(sealed):
            if first <= covered:
                covered = max(covered, following)
        if covered < self.removed_count:  # what it covers beyond is still to be removed
            self.miss(covered, self.removed_count - 1)
            self.bad(finding(covered, 'records', 0, 0, 'records %d to %d are gone, and no sealed log.pruned record says so' % (covered, self.removed_count - 1)))
        return None

    def judge_tail(self):
        size, seal, disk = self.tree.size, self.seal, self.evidence['disk']
        at = self.last_at or finding(0, 'records', 0, 0, '')
        limit = seal['limit_ms'] if seal else self.genesis_limit

        def tail(seq, problem, place=at):
            if self.tail is None:
                self.tail = dict(place, seq=seq, problem=problem)

        if size == 0:
            return tail(0, 'there is no record at all')
        if self.first_unsealed and self.age(self.first_unsealed) > limit:
            tail(seal['seq'] + 1 if seal else 0, 'no seal covers the records from here on, although one should have been made %d s ago' % round((self.age(self.first_unsealed) - limit) / 1000))
        elif seal and seal['why'] != 'close' and self.age(seal) > limit:
            tail(size, 'the writer ended without closing: the newest seal is %d s old' % round(self.age(seal) / 1000))
        elif seal and self.age(seal) > limit and (disk is None or disk['size'] != seal['seq'] + 1):
            tail(size, 'the checkpoint of the newest seal is missing', dict(at, file='checkpoint'))
        wanted = self.options.get('witnesses') or []
        if wanted and not any(one['verified'] for one in self.evidence['witnessed'].values()):
            tail(size, 'no checkpoint carries a cosignature of ' + ' or '.join(name for name, _ in wanted), finding(size, 'witnessed', 0, 0, ''))

    def age(self, moment):
        same = moment['boot'] == self.now['boot']
        return self.now['monoMs'] - moment['mono_ms'] if same else self.now['wallMs'] - moment['time_ms']


def finding(seq, file, line, offset, problem):
    return {'seq': seq, 'file': file, 'line': line, 'offset': offset, 'problem': problem}


def this_moment():
    try:
        with open('/proc/sys/kernel/random/boot_id') as file:
            boot = file.read().strip()
    except OSError:
        boot = None
    return {'wallMs': int(time.time() * 1000), 'boot': boot, 'monoMs': int(time.monotonic() * 1000)}


def collect(directory, options):
    genesis = None
    for name in ('seals.jsonl', os.path.join('records', '0' * 16 + '.jsonl')):
        try:
            kind, line = Lines(os.path.join(directory, name), 128 * 1024).next()
        except OSError:
            continue
        if kind == 'line':
            try:
                record = read_record(line)
                if record['type'] == 'log.created' and record['seq'] == 0:
                    genesis = genesis_of(record['data'])
            except NoRecord:
                pass  # the walk comes to the same line, and names what is wrong with it
            if genesis is not None:
                break
    witnesses = options.get('witnesses') or []
    found = {'genesis': genesis, 'claims': [], 'disk': None, 'disk_fault': None, 'saved_fault': None, 'witnessed': {}, 'notes': []}

    def seen(checkpoint):
        for witness in witnesses:
            seconds = cosigned_at(checkpoint, witness)
            if seconds is not None and checkpoint['size'] >= found['witnessed'].get(witness[0], {'size': -1})['size']:
                found['witnessed'][witness[0]] = {'name': witness[0], 'size': checkpoint['size'], 'time': iso(seconds * 1000) if seconds < 253402300800 else None, 'verified': True}

    data = read_small(os.path.join(directory, 'checkpoint'), MAX_CHECKPOINT)
    if data is not None:
        disk = None if isinstance(data, str) else parse_checkpoint(data)
        if disk is None:
            found['disk_fault'] = data if isinstance(data, str) else 'it is no signed checkpoint (c2sp.org/tlog-checkpoint)'
        elif genesis is None:
            found['disk_fault'] = 'it is there, and no first record that names the key of its log'
        else:
            if disk['origin'] != genesis['origin']:
                found['disk_fault'] = 'it is of another log'
            elif not signed_by(disk, genesis['origin'], genesis['log_key']):
                found['disk_fault'] = 'it is not signed by the log key'
            else:
                found['disk'] = disk
                found['claims'].append({'size': disk['size'], 'root': disk['root'], 'source': 'checkpoint', 'saved': False})
    for name in names_in(os.path.join(directory, 'witnessed'))[:100]:
        data = read_small(os.path.join(directory, 'witnessed', name), MAX_CHECKPOINT)
        checkpoint = parse_checkpoint(data) if isinstance(data, bytes) else None
        if checkpoint is None or genesis is None or checkpoint['origin'] != genesis['origin'] or not signed_by(checkpoint, genesis['origin'], genesis['log_key']):
            found['notes'].append('witnessed/%s is no checkpoint that this log\'s key signed; it was not counted' % name)
            continue
        found['claims'].append({'size': checkpoint['size'], 'root': checkpoint['root'], 'source': 'witnessed/' + name, 'saved': False})
        seen(checkpoint)
        if not witnesses:
            found['witnessed'][name] = {'name': name, 'size': checkpoint['size'], 'time': None, 'verified': False}
    for name in [one for one in names_in(os.path.join(directory, 'records')) if not SEGMENT.match(one)][:10]:
        found['notes'].append('records/%s is not of the log; it was not read' % name)
    collect_saved(options.get('with') or [], genesis, witnesses, found, seen)
    found['claims'].sort(key=lambda claim: claim['size'])
    return found


def collect_saved(paths, genesis, witnesses, found, seen):
    foreign, good, unsigned, known = set(), 0, 0, set()
    for path in paths:
        for checkpoint in find_saved(path, [name for name, _ in witnesses]):
            mark = (checkpoint['origin'], checkpoint['size'], checkpoint['root'], len(checkpoint['signatures']))
            if mark in known:
                continue
            known.add(mark)
            if genesis is None or checkpoint['origin'] != genesis['origin']:
                foreign.add(checkpoint['origin'])
            elif not any(signed_by(dict(checkpoint, signatures=[one]), genesis['origin'], genesis['log_key']) for one in checkpoint['signatures']):
                unsigned += 1
            else:
                good += 1
                found['claims'].append({'size': checkpoint['size'], 'root': checkpoint['root'], 'source': path, 'saved': True})
                seen(checkpoint)
    if unsigned:
        found['notes'].append('%d saved checkpoints have no valid signature of this log\'s key and were not counted' % unsigned)
    if not paths or good:
        return
    if foreign and not unsigned:
        found['saved_fault'] = '%s holds checkpoints of %s and none of this log: this is not the log that they were saved from' % (', '.join(paths), ', '.join(sorted(foreign)[:3]))
        return
    raise Unusable('%s: no checkpoint in it has a valid signature of this log\'s key' % ', '.join(paths))


SEGMENT = re.compile(r'[0-9]{16}\.jsonl\Z')


def names_in(path):
    try:
        return sorted(name for name in os.listdir(path) if not name.startswith('.'))
    except (FileNotFoundError, NotADirectoryError):
        return []


def segments_in(directory):
    try:
        names = sorted(name for name in os.listdir(os.path.join(directory, 'records')) if SEGMENT.match(name) and int(name[:16]) <= MAX_SAFE)
        return [(int(name[:16]), name, os.lstat(os.path.join(directory, 'records', name)).st_size) for name in names]
    except (FileNotFoundError, NotADirectoryError):
        return []


def verify_once(directory, options):
    evidence = collect(directory, options)
    segments = segments_in(directory)
    walk = Walk(directory, evidence, options)
    kept = None
    try:
        kept = Lines(os.path.join(directory, 'seals.jsonl'), MAX_SAFE)
    except FileNotFoundError:
        pass
    except NotRegular:
        walk.bad(finding(0, 'seals.jsonl', 0, 0, 'it is no regular file'), 0)
    if segments and segments[0][0] > 0:
        walk.walk_removed(directory, segments[0][0], kept)
    for first, name, size in segments:
        walk.begin_segment(first, 'records/' + name)
        try:
            lines = Lines(os.path.join(directory, 'records', name), size)
        except FileNotFoundError as error:
            raise Gone() from error
        except NotRegular:
            walk.bad(finding(walk.tree.size, 'records/' + name, 0, 0, 'it is no regular file'))
            continue
        while True:
            kind, line = lines.next()
            if kind == 'none':
                break
            walk.line(lines, kind, line, kept)
            if kind != 'line':
                break
        lines.file.close()
        walk.end_segment(name == segments[-1][1])
    walk.end_kept(kept)

    def grown():
        now = segments_in(directory)
        return bool(segments) and bool(now) and now[-1] != segments[-1]

    return walk.end(not segments, grown)


def verify_log(directory, options):
    for attempt in (1, 2, 3):
        try:
            path = os.path.join(directory, 'checkpoint')
            checkpoint = read_small(path, MAX_CHECKPOINT)
            result = verify_once(directory, options)
            # A seal replaces partial tiles; who looks at one in that moment may find neither the old nor the new one.
            bad = result['firstBad']
            if attempt == 3 or not bad or not bad['file'].startswith('tile/') or read_small(path, MAX_CHECKPOINT) == checkpoint:
                return result
        except Gone:
            if attempt == 3:
                raise


# Proofs, c2sp.org/tlog-proof

PROOF = re.compile(r'c2sp\.org/tlog-proof@v1\nextra ([A-Za-z0-9+/]+={0,2})\nindex (0|[1-9][0-9]{0,15})\n((?:[A-Za-z0-9+/]{43}=\n){0,63})\n(.*)\Z', re.S)


def hashes_of(texts):
    found = [strict_base64(text) for text in texts]
    return None if any(one is None or len(one) != 32 for one in found) else found


def check_proof(path, pin):
    """What is wrong with a proof, or the record that it proves."""
    with open(path, 'rb') as file:
        data = file.read(1024 * 1024)
    try:
        match = PROOF.match(data.decode('utf-8'))
        extra = json.loads(base64.b64decode(match.group(1), validate=True).decode('utf-8')) if match else None
    except ValueError:
        match = None
    if match is None or not isinstance(extra, dict) or set(extra) != {'genesis', 'genesis_proof', 'record', 'seal'}:
        return 'it is no proof that Cordon wrote (c2sp.org/tlog-proof with its extra data)', None
    checkpoint = parse_checkpoint(match.group(4).encode())
    index = int(match.group(2))
    try:
        lines = {name: extra[name].encode('utf-8') for name in ('genesis', 'seal', 'record')}
        genesis_record, seal, record = (read_record(lines[name]) for name in ('genesis', 'seal', 'record'))
        genesis = genesis_of(genesis_record['data']) if genesis_record['type'] == 'log.created' and genesis_record['seq'] == 0 else None
        first_path = hashes_of(extra['genesis_proof'])
        path_hashes = hashes_of(match.group(3).split('\n')[:-1])
    except (NoRecord, AttributeError, TypeError, UnicodeEncodeError):
        return 'what it carries are no records', None
    if genesis is None or checkpoint is None or first_path is None or path_hashes is None:
        return 'it does not hold together: no log.created, checkpoint or hashes', None
    if pin and genesis['fingerprint'] != pin:
        return 'it is of the log with the first key %s, expected %s' % (genesis['fingerprint'], pin), None
    root = root_of_path(leaf_hash(lines['genesis']), 0, seal['data'].get('size') if is_count(seal['data'].get('size')) else 0, first_path)
    if seal['type'] != 'seal' or not seal_fits(seal['data']) or seal['data']['epoch'] != 0 or not seal_signed(lines['seal'], seal['data'], genesis['first_key']):
        return 'its first seal is not signed by the first key', None
    if root is None or root.hex() != seal['data']['root']:
        return 'its first seal does not cover its first record', None
    if checkpoint['origin'] != genesis['origin'] or not signed_by(checkpoint, genesis['origin'], genesis['log_key']):
        return 'its checkpoint is not signed by the log key', None
    if record['seq'] != index or root_of_path(leaf_hash(lines['record']), index, checkpoint['size'], path_hashes) != checkpoint['root']:
        return 'the record is not at that place in the log that the checkpoint is of', None
    return None, {'index': index, 'size': checkpoint['size'], 'fingerprint': genesis['fingerprint'], 'origin': genesis['origin'], 'record': extra['record']}


# What `cordon evidence` gathered

def hash_of(path):
    """SHA-256 of a file, or of where a link leads. None: there is none."""
    try:
        if os.path.islink(path):
            return sha256(b'link:' + os.readlink(os.fsencode(path))).hex()
        fd = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if fd is None:
        return sha256(b'link:').hex()
    digest = hashlib.sha256()
    with os.fdopen(fd, 'rb') as file:
        for chunk in iter(lambda: file.read(1 << 20), b''):
            digest.update(chunk)
    return digest.hexdigest()


def listed_in(manifest):
    try:
        files = json.loads(manifest.decode('utf-8'))['files']
        listed = {one['path']: one['sha256'] for one in files}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    below = all(isinstance(path, str) and '\0' not in path and not {'', '.', '..'} & set(path.split('/')) for path in listed)
    return listed if below and len(listed) == len(files) and all(isinstance(one, str) for one in listed.values()) else None


def paths_in(root):
    for at, folders, files in os.walk(root):
        for name in files + [one for one in folders if os.path.islink(os.path.join(at, one))]:
            yield os.path.relpath(os.path.join(at, name), root)


def check_evidence(directory, pin):
    """What a verifier says of it, as for a log."""
    def found(verdict, problem, files=0, proved=None):
        return {'verdict': verdict, 'problem': problem, 'files': files, 'seq': proved['index'] if proved else None, 'origin': proved['origin'] if proved else None}

    manifest = read_small(os.path.join(directory, 'manifest.json'), 64 * 1024 * 1024)
    if not isinstance(manifest, bytes):
        return found('tampered', 'manifest.json: ' + (manifest or 'it is missing'))
    listed = listed_in(manifest)
    if listed is None:
        return found('tampered', 'manifest.json: it is no manifest of evidence')
    for path in paths_in(directory):
        if path not in listed and path not in ('manifest.json', 'manifest.proof'):
            return found('tampered', path + ': it is not in the manifest')
    for path, expected in listed.items():
        there = hash_of(os.path.join(directory, path))
        if there != expected:
            return found('tampered', path + (': it is missing' if there is None else ': it is not what was gathered'))
    proof = os.path.join(directory, 'manifest.proof')
    data = read_small(proof, 1024 * 1024)
    if data is None:
        return found('unverifiable-tail', 'manifest.proof is missing: every file is as the manifest says, and nobody vouches for the manifest', len(listed))
    problem, proved = (data, None) if isinstance(data, str) else check_proof(proof, pin)
    if problem:
        return found('tampered', 'manifest.proof: ' + problem)
    record = json.loads(proved['record'])
    if record['type'] != 'evidence.gathered' or record['data'].get('sha256') != sha256(manifest).hex():
        return found('tampered', 'manifest.proof: its record is not that of this manifest')
    return found('whole', None, len(listed), proved)


# The command

def describe(result):
    n = '%d record%s' % (result['records'], '' if result['records'] == 1 else 's')
    lines = [{
        'whole': 'The log is whole: %s, each where it was written.' % n,
        'gap': 'The log is unchanged, but not everything was recorded: %s, %d gaps, %d pauses without a seal.' % (n, result['gapCount'], len(result['pauses'])),
        'unverifiable-tail': 'The log\'s end cannot be verified: %s unchanged as far as seals reach, and what should follow does not.' % n,
        'tampered': 'The log was TAMPERED WITH or damaged: only the first %s can be believed.' % n,
    }[result['verdict']]]
    bad = result['firstBad']
    if bad:
        lines.append('  record %d, %s line %d, byte %d: %s' % (bad['seq'], bad['file'], bad['line'], bad['offset'], bad['problem']))
    lines += ['  missing: records %d to %d' % (one['from'], one['to']) for one in result['missing'][:10]]
    lines += ['  gap at record %d, %s: %s' % (one['seq'], one['time'], one['reason']) for one in result['gaps'][:10]]
    lines += ['  no seal for %d s after the one at record %d' % (one['seconds'], one['seq']) for one in result['pauses'][:10]]
    seal = result['lastSealed']
    lines.append('last sealed: record %d at %s (epoch %d, %s)' % (seal['seq'], seal['time'], seal['epoch'], seal['why']) if seal else 'last sealed: never')
    lines.append('not yet sealed: %d records at the end, %d s' % (result['unsealed']['records'], result['unsealed']['seconds']))
    for one in result['lastWitnessed']:
        lines.append('last witnessed: %d records by %s%s' % (one['size'], one['name'], ' at %s' % one['time'] if one['verified'] else ' (not checked: name its key with --witness)'))
    if not result['lastWitnessed']:
        lines.append('last witnessed: never')
    if result['pruned']:
        lines.append('removed by retention, sealed as removed: records %d to %d' % (result['pruned']['from'], result['pruned']['to']))
    if result['fingerprint']:
        lines.append('first key: %s%s' % (result['fingerprint'], ', the one that you named' if result['keyConfirmed'] else ''))
    if result['savedConfirmed']:
        lines.append('%d saved checkpoints agree with it, the largest for %d records.' % (result['savedConfirmed'], result['savedSize']))
    lines += ['note: ' + note for note in result['notes'][:10]]
    if not (result['headConfirmed'] or result['savedConfirmed'] or any(one['verified'] for one in result['lastWitnessed'])):
        lines.append('note: ' + NOT_SHOWN)
    return lines


def printable(text):
    return ''.join(c if c.isprintable() else '\\u{%x}' % ord(c) for c in text)


def read_witnesses(words, saved):
    witnesses = []
    for word in words:
        key = parse_vkey(word)
        if key:
            witnesses.append(key)
            continue
        with open(word, encoding='utf-8', errors='replace') as file:
            text = file.read(64 * 1024)
        keys = [key for key in map(parse_vkey, re.findall(r'[^\s+"\']{1,200}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}', text)) if key]
        witnesses += keys
        if not keys or 'cordon-audit/' in text:
            saved.append(word)
    return witnesses


def options_of(asked):
    saved = list(asked.get('with') or [])
    witnesses = read_witnesses(asked.get('witness') or [], saved)
    options = {'key': asked.get('key'), 'with': saved, 'witnesses': witnesses, 'now': asked.get('now')}
    if asked.get('head'):
        match = re.match(r'(\d{1,15}):([0-9a-f]{64})\Z', asked['head'], re.ASCII)
        if match is None:
            raise ValueError('--head is not SEQ:HASH')
        options['head'] = {'seq': int(match.group(1)), 'hash': match.group(2)}
    return options


def one_of_batch(asked):
    try:
        if 'proof' in asked:
            problem, proved = check_proof(asked['proof'], asked.get('key'))
            return {'verdict': 'tampered' if problem else 'whole', 'problem': problem, 'proved': proved}
        if 'evidence' in asked:
            return check_evidence(asked['evidence'], asked.get('key'))
        return verify_log(asked['dir'], options_of(asked))
    except (Unusable, OSError, ValueError) as error:
        return {'verdict': 'unusable', 'problem': str(error)}


class Parser(argparse.ArgumentParser):
    def error(self, message):  # argparse would end with 2, which means tampered
        self.print_usage(sys.stderr)
        self.exit(64, 'error: %s\n' % message)


def main():
    parser = Parser(description='Checks an audit log of Cordon, or a proof about one record of it.')
    parser.add_argument('dir', nargs='?', metavar='DIR', help='the log\'s directory, or a copy of it')
    parser.add_argument('--key', metavar='FINGERPRINT', help='of the first key, as noted when the log began')
    parser.add_argument('--with', metavar='FILE', action='append', help='a text with saved checkpoints: mail box, chat export')
    parser.add_argument('--witness', metavar='FILE|KEY', action='append', help='a witness\'s key, or a file with keys or its state')
    parser.add_argument('--head', metavar='SEQ:HASH', help='must still hold this record')
    parser.add_argument('--at', metavar='TIME', help='when the copy was made, for ages, as 2026-11-20T12:00:00.000Z')
    parser.add_argument('--proof', metavar='FILE', help='check what `cordon audit prove` wrote')
    parser.add_argument('--evidence', metavar='DIR', help='check what `cordon evidence` gathered')
    parser.add_argument('--json', action='store_true')
    parser.add_argument('--batch', action='store_true', help='one JSON object per line on stdin')
    asked = vars(parser.parse_args())
    if asked['key'] and not re.match(r'SHA256:[A-Za-z0-9+/]{43}\Z', asked['key']):
        parser.error('--key is no fingerprint: SHA256: and 43 characters')  # a slip of the pen is no tampering
    if asked['batch']:
        for line in sys.stdin:
            print(json.dumps(one_of_batch(json.loads(line))), flush=True)
        return 0
    if asked['proof']:
        problem, proved = check_proof(asked['proof'], asked['key'])
        if asked['json']:
            print(json.dumps({'verdict': 'tampered' if problem else 'whole', 'problem': problem, 'proved': proved}))
        elif problem:
            print('The proof is NOT valid: ' + printable(problem))
        else:
            print('The proof holds: this is record %d of %d in %s, whose first key is %s.' % (proved['index'], proved['size'], proved['origin'], proved['fingerprint']))
            print(printable(proved['record']))
        return 2 if problem else 0
    if asked['evidence']:
        if not os.path.isdir(asked['evidence']):
            raise Unusable(asked['evidence'] + ': there is no such directory')
        result = check_evidence(asked['evidence'], asked['key'])
        result['exit'] = EXITS[result['verdict']]
        if asked['json']:
            print(json.dumps(result))
        elif result['problem']:
            print('The evidence %s: %s' % ('is NOT as it was gathered' if result['exit'] == 2 else 'cannot be verified', printable(result['problem'])))
        else:
            print('The evidence is as it was gathered: %d files, and the hash of their manifest is record %d of %s.' % (result['files'], result['seq'], result['origin']))
        return result['exit']
    if not asked['dir']:
        parser.error('name the directory of a log, --proof FILE or --evidence DIR')
    if asked['at']:
        wall = instant(asked['at'])
        if wall is None:
            parser.error('--at is no time such as 2026-11-20T12:00:00.000Z')
        asked['now'] = {'wallMs': wall, 'boot': None, 'monoMs': 0}
    if not os.path.isdir(os.path.join(asked['dir'], 'records')) and not os.path.exists(os.path.join(asked['dir'], 'checkpoint')):
        raise Unusable('%s holds no audit log: no records/ in it' % asked['dir'])
    result = verify_log(asked['dir'], options_of(asked))
    result['exit'] = EXITS[result['verdict']]
    print(json.dumps(result) if asked['json'] else '\n'.join(map(printable, describe(result))))
    return result['exit']


if __name__ == '__main__':
    try:
        sys.exit(main())
    except (Unusable, OSError) as error:
        print('error: ' + printable(str(error)), file=sys.stderr)
        sys.exit(66)
    except ValueError as error:
        print('error: ' + printable(str(error)), file=sys.stderr)
        sys.exit(64)
