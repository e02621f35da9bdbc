/** One record as the log keeps it (audit/FORMAT.md); `data` is by type and attacker-controlled where plugins fill it. */
export interface LogRecord {
  readonly seq: number
  /** RFC 3339 in UTC. */
  readonly time: string
  readonly type: string
  readonly origin: string
  readonly plugin: string | null
  readonly run: string | null
  /** Digest of the policy in force. */
  readonly policy: string | null
  readonly data: Readonly<Record<string, unknown>>
}

/** What a record can be found by. Every text is as the record has it; host names are lower case in the log already. */
export interface Fields {
  readonly seq: number
  /** ms since 1970. */
  readonly ms: number
  /** Empty: about no plugin. */
  readonly plugin: string
  readonly type: string
  readonly outcome: Outcome
  /** The reason or status that the record gives: `name-not-allowed`, `LAUNCH_FAILED`, `404`. Empty: none. */
  readonly code: string
  /** Names and addresses on the other side. */
  readonly hosts: readonly string[]
  /** Hex SHA-256 values: policies, plans, programs. */
  readonly digests: readonly string[]
  readonly clients: readonly string[]
}

/** How it went, in one word. `lost`: records are missing; `alarm`: a wall did not stand as planned, or a decoy was touched. */
export const OUTCOMES = ['ok', 'refused', 'failed', 'lost', 'alarm'] as const
export type Outcome = (typeof OUTCOMES)[number]

/** @returns null for a line that is no record. Checked by hand: a log has millions of lines */
export function parseRecord(line: string): LogRecord | null {
  const value = parseLine(line)
  if (value === null) return null
  const { seq, time, type, origin, plugin, run, policy, data } = value
  const fits = Number.isSafeInteger(seq) && typeof time === 'string' && typeof type === 'string' && typeof origin === 'string' && isTextOrNull(plugin) && isTextOrNull(run) && isTextOrNull(policy)
    && typeof data === 'object' && data !== null && !Array.isArray(data)
  return fits ? (value as unknown as LogRecord) : null
}

/** Record to what it is found by. Pure. @returns null when its time is none */
export function fieldsOf({ seq, time, type, plugin, policy, data }: LogRecord): Fields | null {
  const ms = Date.parse(time)
  if (Number.isNaN(ms)) return null
  const code = codeOf(data)
  const network = type.startsWith('egress.') || type.startsWith('dns.')
  const client = data['client']
  return {
    seq, ms, plugin: plugin ?? '', type, code, outcome: outcomeOf(type, code, data),
    hosts: network ? hostsOf(data) : NONE,
    digests: isChain(type) ? NONE : digestsOf(policy, FREQUENT.test(type) ? null : data),
    clients: typeof client === 'string' && client !== '' ? [client] : NONE,
  }
}

const NONE: readonly string[] = []
const MAX_CODE = 64
/** Values of one record that are found by: a record holds few; a changed one may claim thousands. */
const MAX_VALUES = 64

function outcomeOf(type: string, code: string, data: LogRecord['data']): Outcome {
  if (type === 'gap') return 'lost'
  if (type === 'isolation.violated' || type === 'tripwire.touched') return 'alarm'
  if (/\.(?:refused|denied|attempted)$/.test(type)) return 'refused'
  if (type === 'plugin.failed' || type === 'export.stalled' || type === 'export.dropped') return 'failed'
  if (type === 'http.request') return code === '401' || code === '403' || code === '421' ? 'refused' : code >= '400' ? 'failed' : 'ok'
  if (type === 'channel.call') return code === 'ok' ? 'ok' : 'failed'
  if (type === 'egress.closed') return code === '' ? 'ok' : 'failed'
  if (type === 'health.changed') return data['healthy'] === false ? 'failed' : 'ok'
  return 'ok'
}

function codeOf(data: LogRecord['data']): string {
  const code = data['code'] ?? data['outcome'] ?? data['status']
  return typeof code === 'string' ? (code.length <= MAX_CODE ? code : '') : typeof code === 'number' ? String(code) : ''
}

const HOST_KEYS = ['name', 'host', 'sni', 'address', 'destination'] as const
const LIST_KEYS = ['addresses', 'destinations'] as const

function hostsOf(data: LogRecord['data']): string[] {
  const found = new Set<string>()
  for (const key of HOST_KEYS) {
    const value = data[key]
    if (typeof value !== 'string' || value === '') continue
    // `cordon allow` and `deny` record NAME:PORT, several with blanks between.
    if (key === 'destination') for (const one of value.split(' ')) found.add(bare(one))
    else found.add(value)
  }
  for (const key of LIST_KEYS) {
    const list = data[key]
    if (Array.isArray(list)) for (const one of list.slice(0, MAX_VALUES)) if (typeof one === 'string') found.add(one)
  }
  // Where a name was meant, the address that was dialled only stands for it.
  const dialled = data['dialled']
  if (typeof dialled === 'string' && typeof data['name'] !== 'string') found.add(dialled)
  const attempts = data['attempts']
  if (Array.isArray(attempts)) for (const one of attempts.slice(0, MAX_VALUES)) if (isAttempt(one)) found.add(bare(one.destination.slice(one.destination.lastIndexOf(' ') + 1)))
  return [...found]
}

/** Of `egress.attempted`: `tcp [2001:db8::1]:443` and how often. */
function isAttempt(value: unknown): value is { readonly destination: string } {
  return typeof value === 'object' && value !== null && 'destination' in value && typeof value.destination === 'string'
}

/** `[2001:db8::1]:443` and `api.example.org:443` without the port. */
function bare(destination: string): string {
  return destination.replace(/:[0-9]{1,5}$/, '').replace(/^\[(.*)\]$/, '$1')
}

/** Roots, keys and signatures of the log itself are found by their `seq`; there would be one of each for every few seconds. */
function isChain(type: string): boolean {
  return type === 'seal' || type.startsWith('log.')
}

/** Most records of a log, and by their schemas without digests in `data`: not looked through. */
const FREQUENT = /^(?:egress|dns|http|channel|resources|access)\./

function digestsOf(policy: string | null, data: LogRecord['data'] | null): readonly string[] {
  if (data === null) return policy === null || !isDigest(policy) ? NONE : [policy]
  const found = new Set<string>()
  if (policy !== null && isDigest(policy)) found.add(policy)
  collect(data, 3, found)
  return found.size === 0 ? NONE : [...found]
}

function collect(value: object, depth: number, found: Set<string>): void {
  for (const key in value) {
    const item: unknown = (value as Record<string, unknown>)[key]
    if (typeof item === 'string') {
      if (item.length === 64 && isDigest(item) && found.size < MAX_VALUES) found.add(item)
    } else if (typeof item === 'object' && item !== null && depth > 1) {
      collect(item, depth - 1, found)
    }
  }
}

function isDigest(text: string): boolean {
  return /^[0-9a-f]{64}$/.test(text)
}

function isTextOrNull(value: unknown): value is string | null {
  return value === null || typeof value === 'string'
}

function parseLine(line: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(line)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null
  } catch {
    return null // the caller counts it
  }
}
