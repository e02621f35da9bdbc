/** Hand-made TLS hellos, so that each test says exactly what is wrong with its own. */
export interface HelloParts {
  readonly extensions?: readonly (readonly [number, Buffer])[] | null
  readonly sessionId?: Buffer
  readonly ciphers?: Buffer
  readonly compressions?: Buffer
  readonly trailing?: Buffer
}

export const vector = (size: 1 | 2 | 3, bytes: Buffer): Buffer => {
  const head = Buffer.alloc(size)
  head.writeUIntBE(bytes.length, 0, size)
  return Buffer.concat([head, bytes])
}

export const uint16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255])

/** The server_name extension with these host names. */
export const serverName = (...names: (string | Buffer)[]): readonly [number, Buffer] => [0, vector(2, Buffer.concat(names.map((name) => Buffer.concat([Buffer.from([0]), vector(2, Buffer.from(name))]))))]

export const alpn = (...names: string[]): readonly [number, Buffer] => [16, vector(2, Buffer.concat(names.map((name) => vector(1, Buffer.from(name, 'latin1')))))]

/** One handshake message, without record headers. */
export function message(parts: HelloParts = {}): Buffer {
  const { extensions = [serverName('example.org')], sessionId = Buffer.alloc(32, 7), ciphers = Buffer.from([0x13, 1, 0x13, 2]), compressions = Buffer.from([0]), trailing = Buffer.alloc(0) } = parts
  const list = extensions === null ? Buffer.alloc(0) : vector(2, Buffer.concat(extensions.map(([type, body]) => Buffer.concat([uint16(type), vector(2, body)]))))
  const body = Buffer.concat([Buffer.from([3, 3]), Buffer.alloc(32, 9), vector(1, sessionId), vector(2, ciphers), vector(1, compressions), list, trailing])
  return Buffer.concat([Buffer.from([1]), vector(3, body)])
}

export const record = (bytes: Buffer, type = 22, minor = 1): Buffer => Buffer.concat([Buffer.from([type, 3, minor]), vector(2, bytes)])

/** One message over records of at most `size` bytes. */
export function records(bytes: Buffer, size: number): Buffer {
  const parts: Buffer[] = []
  for (let at = 0; at < bytes.length; at += size) parts.push(record(bytes.subarray(at, at + size)))
  return Buffer.concat(parts)
}

export const hello = (parts: HelloParts = {}): Buffer => record(message(parts))
