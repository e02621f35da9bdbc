import { CATALOGUE } from '../audit/catalogue.ts'
import type { AuditType } from '../audit/record.ts'
import type { LogRecord } from '../history/fields.ts'
import { bytesText, secondsText } from './amounts.ts'

/** `bad` needs a look, `warn` was refused or failed, `act` is what a person did. */
export type Tone = 'bad' | 'warn' | 'act' | 'plain'

export interface Told {
  /** The same for records that are told as one row. */
  readonly text: string
  /** What differs among them: a destination, a path. Null: nothing. */
  readonly object: string | null
  readonly tone: Tone
  /** A milestone stands by itself; everything else may be gathered between two of them. */
  readonly milestone: boolean
  /** How often it happened: a record may stand for many. */
  readonly times: number
  /** Each object gets a row of its own as long as there are few. */
  readonly apart?: true
}

/** One record in words; null: it belongs to another part of the report. Pure. */
export function tell(record: LogRecord): Told | null {
  const { type, data } = record
  const told = Object.hasOwn(TELLERS, type) ? TELLERS[type] : undefined // a changed log may hold any type, `toString` too
  if (told !== undefined) return told(record)
  if (HIDDEN.has(type)) return null
  const says = CATALOGUE.get(type as AuditType)?.says
  return says === undefined ? plain(`${type}: ${brief(data)}`) : gathered(says.replace(/\.$/, ''), brief(data))
}

/** Curves, tables and the verdict show these. */
const HIDDEN: ReadonlySet<string> = new Set(['resources.snapshot', 'host.snapshot', 'egress.closed', 'seal', 'http.count', 'plugin.started', 'door.opened', 'log.created', 'log.opened'])

type Teller = (record: LogRecord) => Told

const TELLERS: Readonly<Record<string, Teller>> = {
  'daemon.started': ({ data }) => milestone(`The daemon started (Cordon ${word(data, 'version')}, ${word(data, 'runtime')}, kernel ${word(data, 'kernel')})`),
  'daemon.stopped': ({ data }) => milestone(`The daemon stopped: ${word(data, 'reason')}`),
  'daemon.lost': ({ data }) => milestone(`The daemon before had been killed, or the machine; its last record is of ${word(data, 'last')}`, 'warn', `connections that ended with it: ${word(data, 'connections')}`),
  'daemon.cleaned': ({ data }) => milestone(`What an earlier daemon left was removed: ${word(data, 'cgroups')} control groups, ${word(data, 'places')} directories`, 'warn'),
  'gateway.started': () => plain('The gateway serves'),
  'gateway.ended': ({ data }) => milestone(`The gateway ended: ${word(data, 'reason')}`, 'warn'),
  'door.started': () => plain('The door is ready'),
  'door.ended': ({ data }) => milestone(`The door ended: ${word(data, 'reason')}`, 'warn'),
  'policy.loaded': ({ data }) => milestone(`Policy ${short(word(data, 'policy_digest'))} came into force, from ${word(data, 'file')}`, 'act', changes(data)),
  'plugin.quarantined': ({ data }) => milestone(`QUARANTINED by ${word(data, 'who')}: ${word(data, 'reason')}`, 'bad', `its processes: ${word(data, 'held')}`),
  'plugin.released': ({ data }) => milestone(`Released from quarantine by ${word(data, 'who')}: ${word(data, 'reason')}`, 'act'),
  'tripwire.touched': ({ data }) => milestone(`IT TOUCHED A DECOY: ${word(data, 'say')}`, 'bad'),
  'seccomp.refused': ({ data }) => ({ ...gathered('System calls were refused (at least so often)', callNames(data['calls']), 'warn'), times: Math.max(1, totalOf(data['calls'])) }),
  'export.stalled': ({ data }) => milestone(`No copies of records to ${word(data, 'sink')}: ${word(data, 'reason')}`, 'warn'),
  'export.resumed': ({ data }) => milestone(`Copies of records go to ${word(data, 'sink')} again`),
  'export.dropped': ({ data }) => milestone(`${number(data, 'records')} records were not copied to ${word(data, 'sink')}: ${word(data, 'reason')}`, 'warn'),
  'policy.refused': ({ data }) => milestone(`A policy file was refused: ${word(data, 'file')}, ${word(data, 'code')}`, 'warn'),
  'policy.removed': () => milestone('Its policy file is gone; it was stopped', 'act'),
  'egress.applied': ({ data }) => (typeof data['act'] === 'string'
    ? milestone(`${capital(word(data, 'act'))} ${word(data, 'destination')}${data['until'] === undefined ? '' : ` until ${word(data, 'until')}`}, by ${word(data, 'who')}${data['reason'] === undefined ? '' : `: ${word(data, 'reason')}`}`.replace(/ {2,}/g, ' '), 'act')
    : milestone('Other rules for the door are in force', 'act')),
  'plugin.found': ({ data }) => milestone(`A program without a policy of its own was found: ${word(data, 'path')}`),
  'plugin.start': ({ data, policy }) => milestone(`Started: program ${short(word(data, 'sha256'))}, policy ${short(policy ?? '?')}`),
  'plugin.running': ({ data }) => gathered('Ready to serve', `version ${word(data, 'version')}`),
  'plugin.handshake': ({ data }) => gathered('Introduced itself', `${word(data, 'name')} ${word(data, 'version')}`),
  'plugin.stop': ({ data }) => milestone(`Is being stopped: ${word(data, 'reason')}`),
  'plugin.exited': ({ data }) => milestone(number(data, 'oom_kills') > 0 ? 'Killed: it used up its memory' : `Ended: ${word(data, 'reason')}`, number(data, 'oom_kills') > 0 ? 'bad' : 'plain', `after ${secondsText(number(data, 'seconds'))}`),
  'plugin.failed': ({ data }) => milestone(`Failed: ${word(data, 'reason')}`, 'bad'),
  'plugin.refused': ({ data }) => milestone(`Refused and stopped: ${word(data, 'message')}`, 'bad'),
  'plugin.enabled': ({ data }) => milestone(`Enabled by ${word(data, 'who')}`, 'act'),
  'plugin.disabled': ({ data }) => milestone(`Disabled by ${word(data, 'who')}`, 'act'),
  'executable.stored': ({ data }) => milestone(`A program was copied into the store: ${short(word(data, 'sha256'))}, ${bytesText(number(data, 'bytes'))}, from ${word(data, 'path')}`),
  'isolation.attested': ({ data }) => gathered(`The kernel confirmed every wall${data['subject'] === undefined ? '' : ` of the ${word(data, 'subject')}`}`, null),
  'isolation.violated': ({ data }) => milestone(`A WALL DID NOT STAND AS PLANNED: ${brief(data['differences'])}`, 'bad'),
  'egress.opened': ({ data }) => ({ ...gathered(data['code'] === 'learning' ? 'Connected while learning, which protects nothing' : 'Connected', where(data)), apart: true }),
  'egress.refused': ({ data }) => refused(data, 'A connection was refused'),
  'dns.refused': ({ data }) => refused(data, 'A name was not answered'),
  'egress.attempted': ({ data }) => ({ ...gathered('Packets met the second wall', attempts(data['attempts']), 'warn') }),
  'programs.seen': ({ data }) => seenRunning(data['programs']),
  'admin.act': ({ data }) => milestone(`${capital(word(data, 'act'))}, asked by ${word(data, 'who')}`, 'act'),
  'http.request': ({ data }) => gathered(`${word(data, 'method')} requests answered with ${status(number(data, 'status'))}`, word(data, 'path'), number(data, 'status') >= 500 ? 'warn' : 'plain'),
  'access.denied': ({ data }) => ({ ...gathered(`Turned away: ${word(data, 'reason')}`, `${word(data, 'client')} ${word(data, 'path')}`, 'warn'), times: 1 + number(data, 'coalesced') }),
  'access.granted': ({ data }) => gathered(`Let in by ${word(data, 'how')}`, word(data, 'client')),
  'channel.call': ({ data }) => gathered(data['outcome'] === 'ok' ? 'Called the host' : `Called the host and got ${word(data, 'outcome')}`, word(data, 'method'), data['outcome'] === 'ok' ? 'plain' : 'warn'),
  'channel.closed': ({ data }) => gathered(`Its channel closed: ${word(data, 'reason')}`, null),
  'health.changed': ({ data }) => milestone(data['healthy'] === true ? 'Healthy again' : `Unhealthy: ${word(data, 'detail')}`, data['healthy'] === true ? 'plain' : 'warn'),
  'run.started': ({ data }) => milestone(`cordon run started ${word(data, 'program')}`, 'act'),
  'run.ended': ({ data }) => milestone(`cordon run ended: ${word(data, 'reason')}`),
  'gap': ({ data }) => milestone(`RECORDS ARE MISSING: ${word(data, 'reason')}${missing(data)}`, 'bad'),
  'log.pruned': ({ data }) => milestone(`The oldest records were removed by retention, up to record ${number(data, 'next') - 1}`),
  'log.full': ({ data }) => milestone(`The disk of the log was full: ${word(data, 'errno')}`, 'bad'),
}

function refused(data: LogRecord['data'], text: string): Told {
  const tone = data['code'] === 'tripwire' ? 'bad' : 'warn'
  return { ...gathered(`${text}: ${word(data, 'code')}`, where(data), tone), milestone: tone === 'bad', times: 1 + number(data, 'coalesced') }
}

/** `api.example.org:443`; a name alone where no port was named. */
export function where(data: LogRecord['data']): string {
  const host = typeof data['name'] === 'string' ? data['name'] : word(data, 'dialled')
  return typeof data['port'] === 'number' ? `${host.includes(':') ? `[${host}]` : host}:${data['port']}` : host
}

/** Programs that were not seen in this run before. */
function seenRunning(programs: unknown): Told {
  const names = (Array.isArray(programs) ? programs : []).slice(0, 8).map((one: unknown) => (typeof one === 'object' && one !== null && 'path' in one ? `${brief(one.path)}${'sha256' in one && typeof one.sha256 === 'string' ? ` (${short(one.sha256)})` : ''}` : '?'))
  return gathered('Seen running for the first time in this run', names.join(', '))
}

function changes(data: LogRecord['data']): string | null {
  const list = data['changes']
  if (!Array.isArray(list) || list.length === 0) return null
  const lines = list.slice(0, 12).map((one: unknown) => (typeof one === 'object' && one !== null && 'sign' in one && 'field' in one && 'say' in one ? `${brief(one.sign)} ${brief(one.field)}: ${brief(one.say)}` : '?'))
  const more = list.length - lines.length + number(data, 'more_changes')
  return `${lines.join('; ')}${more > 0 ? `; and ${more} more` : ''}`
}

function callNames(calls: unknown): string | null {
  return typeof calls === 'object' && calls !== null ? Object.keys(calls).slice(0, 12).join(', ') : null
}

function totalOf(counts: unknown): number {
  return typeof counts === 'object' && counts !== null ? Object.values(counts).reduce((sum: number, n: unknown) => sum + (typeof n === 'number' ? n : 0), 0) : 0
}

function attempts(value: unknown): string | null {
  if (!Array.isArray(value)) return null
  return value.slice(0, 5).map((one: unknown) => (typeof one === 'object' && one !== null && 'destination' in one ? brief(one.destination) : '?')).join(', ')
}

function missing(data: LogRecord['data']): string {
  const total = ['lost', 'refused', 'coalesced'].map((key) => totalOf(data[key]))
  const [lost = 0, kept = 0, coalesced = 0] = total
  return [[lost, 'acts without a record'], [kept, 'acts refused'], [coalesced, 'counted instead of recorded']].filter(([n]) => n !== 0).map(([n, what]) => `, ${String(n)} ${String(what)}`).join('')
}

function status(code: number): string {
  return code === 0 ? 'nothing' : String(code)
}

function milestone(text: string, tone: Tone = 'plain', object: string | null = null): Told {
  return { text, object, tone, milestone: true, times: 1 }
}

function plain(text: string): Told {
  return gathered(text, null)
}

function gathered(text: string, object: string | null, tone: Tone = 'plain'): Told {
  return { text, object, tone, milestone: false, times: 1 }
}

export function word(data: LogRecord['data'], key: string): string {
  const value = data[key]
  return typeof value === 'string' ? value : value === undefined || value === null ? '' : brief(value)
}

export function number(data: LogRecord['data'], key: string): number {
  const value = data[key]
  return typeof value === 'number' && Number.isFinite(value) ? value : 0
}

export function short(digest: string): string {
  return digest.slice(0, 12)
}

function brief(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
  return text.length > 300 ? `${text.slice(0, 300)}…` : text
}

function capital(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`
}
