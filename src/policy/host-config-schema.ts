import { isIP } from 'node:net'
import * as z from 'zod'
import { parseSinkAddress } from './export-sink.ts'
import { wrongForm } from './paths.ts'
import { unit } from './schema-parts.ts'
import { parseBytes, parseDuration } from './units.ts'

/** /etc/cordon/cordon.yaml as an operator writes it; every field may be left out. */
export type RawHostConfig = z.infer<typeof hostConfigSchema>

/** Free of every range that systemd documents for something else (systemd.io UIDS-GIDS.md): above containers, below 2^31 - 1. */
const UID_LEAST = 100_000
const UID_MOST = 2_147_483_646

const directory = z.string().superRefine((path, context) => {
  const wrong = path === '/' ? 'it is the whole host' : wrongForm(path)
  if (wrong !== null) context.addIssue({ code: 'custom', message: `is refused: ${wrong}`, params: { code: 'POLICY_UNSAFE_PATH', hint: 'Write an absolute, normalised directory.' } })
})

/** unix(7): 107 bytes for `RUN_DIR/sockets/RUN/plugin.sock`, with a run's 16 digits. */
const RUN_DIR_MAX_BYTES = 64

const listen = z.string().superRefine((text, context) => {
  if (parseListen(text) === null) context.addIssue({ code: 'custom', message: 'expected ADDRESS:PORT, as in 127.0.0.1:8480 or [::1]:8480', params: { code: 'POLICY_BAD_VALUE' } })
})

const sinkAddress = z.string().superRefine((text, context) => {
  if (parseSinkAddress(text) === null) context.addIssue({ code: 'custom', message: 'expected HOST:PORT, as in logs.example.org:6514 or [2001:db8::1]:6514', params: { code: 'POLICY_BAD_VALUE' } })
})

const exportSink = z.strictObject({
  kind: z.enum(['journald', 'syslog']).describe('The journal of this host, or a syslog server (RFC 5424).'),
  address: sinkAddress.optional().describe('Of a syslog server, HOST:PORT.'),
  tls: z.boolean().optional().describe('TLS to a syslog server (RFC 5425). Default: true. Without it anybody on the way reads and changes what is sent.'),
  ca: directory.optional().describe('PEM file of the authority of the server. Default: the usual ones.'),
}).superRefine(({ kind, address, tls, ca }, context) => {
  if (kind === 'syslog' && address === undefined) context.addIssue({ code: 'custom', path: ['kind'], message: 'is syslog, and no `address` says where', params: { code: 'POLICY_MISSING_FIELD', hint: 'Add `address: HOST:PORT`.' } })
  if (kind === 'journald' && (address !== undefined || tls !== undefined || ca !== undefined)) context.addIssue({ code: 'custom', path: ['kind'], message: 'is journald, which has no address, tls or ca', params: { code: 'POLICY_CONFLICT' } })
  if (tls === false && ca !== undefined) context.addIssue({ code: 'custom', path: ['ca'], message: 'is given, and `tls` is false', params: { code: 'POLICY_CONFLICT' } })
})

/** Headers whose value is a secret, or is set by whoever speaks HTTP. */
const NO_NAMES = /^(?:authorization|proxy-authorization|cookie|host|connection|content-.*|transfer-encoding)$/i

const forwardedUser = z.strictObject({
  header: z.string().regex(/^[A-Za-z][A-Za-z0-9-]{0,63}$/).superRefine((name, context) => {
    if (NO_NAMES.test(name)) context.addIssue({ code: 'custom', message: 'does not hold the name of a user', params: { code: 'POLICY_BAD_VALUE', hint: 'Name the header in which the proxy passes on whom it logged in, as X-Forwarded-User; it must remove what callers send under that name.' } })
  }).describe('In which header it names the user, as X-Forwarded-User. It must remove what callers send under that name.'),
  from: z.array(z.string().superRefine((text, context) => {
    if (isIP(text) === 0) context.addIssue({ code: 'custom', message: 'expected an address, as 127.0.0.1', params: { code: 'POLICY_BAD_VALUE' } })
  })).min(1).max(16).describe('Addresses of the proxy. Whoever can connect from there can name anybody.'),
})

const size = z.string().superRefine(unit((text) => parseBytes(text, 1024), (bytes) => (bytes >= 1024 ** 2 ? null : '1M or more')))
const duration = z.string().superRefine(unit(parseDuration, (ms) => (ms >= 1000 && ms % 1000 === 0 ? null : 'whole seconds, at least one')))

const witness = z.strictObject({
  name: z.string().regex(/^[a-z0-9][a-z0-9.-]{0,39}$/).describe('A short name, as in `witnessed/NAME`: lower case, digits, ".", "-".'),
  url: z.string().max(300).regex(/^https?:\/\/[^\s/?#@]+(?:\/[^\s?#]*)?$/).describe('Where it listens, as it prints it: http://192.0.2.7:8481.'),
  key: z.string().max(400).regex(/^[^\s+]{1,200}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}$/).describe('Its key, as it prints it: NAME+ID+BASE64.'),
})

export const hostConfigSchema = z.strictObject({
  listen: listen.optional().describe('Where the gateway listens, ADDRESS:PORT. Default: 127.0.0.1:8480.'),
  policies_dir: directory.optional().describe('Policies, one file per plugin. Default: /etc/cordon/policies.'),
  plugins_dir: directory.optional().describe('Scanned for executables without a policy. Default: /var/lib/cordon/plugins.'),
  state_dir: directory.optional().describe('Audit log, store, plugin data: survives a reboot. Default: /var/lib/cordon.'),
  run_dir: directory.superRefine((path, context) => {
    const bytes = Buffer.byteLength(path)
    if (bytes > RUN_DIR_MAX_BYTES) context.addIssue({ code: 'custom', message: `is ${bytes} bytes long; expected at most ${RUN_DIR_MAX_BYTES}, so that the sockets below it keep to the kernel's 107`, params: { code: 'POLICY_OUT_OF_BOUNDS' } })
  }).optional().describe('Sockets, bundles, namespaces: dies with the boot. Default: /run/cordon.'),
  runtime: z.strictObject({
    kind: z.enum(['auto', 'crun', 'runc']).optional().describe('Which OCI runtime. Default: auto, which prefers crun where it works.'),
    path: directory.optional().describe('Absolute path of the runtime program; needs `kind`. Default: found in the usual places.'),
  }).superRefine((runtime, context) => {
    if (runtime.path !== undefined && (runtime.kind === undefined || runtime.kind === 'auto')) {
      context.addIssue({ code: 'custom', path: ['path'], message: 'is given, but not which runtime it is', params: { code: 'POLICY_CONFLICT', hint: 'Add `kind: crun` or `kind: runc`.' } })
    }
  }).optional().describe('The OCI runtime that builds the walls.'),
  uids: z.strictObject({
    first: z.int().min(UID_LEAST).max(UID_MOST).optional().describe('First uid of the range. Default: 1880000000.'),
    count: z.int().min(16).max(1_000_000).optional().describe('How many uids; none is ever used twice. Default: 65536.'),
  }).superRefine((uids, context) => {
    if ((uids.first ?? 0) + (uids.count ?? 65_536) - 1 > UID_MOST) {
      context.addIssue({ code: 'custom', path: ['first'], message: `is too high: the range must end at ${UID_MOST} or before`, params: { code: 'POLICY_OUT_OF_BOUNDS' } })
    }
  }).optional().describe('Users for plugins: a range that nothing else on the host uses.'),
  unknown: z.enum(['wait', 'run-default']).optional().describe('A plugin without a policy waits for approval, or runs under policies/default.yaml. Default: wait.'),
  forwarded_user: forwardedUser.optional().describe('A reverse proxy that tells who is behind a request, for the record; it opens nothing. Default: no such header is believed.'),
  audit: z.strictObject({
    segment_size: size.optional().describe('A segment of the log ends at this size. Default: 64M.'),
    segment_age: duration.optional().describe('A segment of the log ends at this age. Default: 7d.'),
    keep: duration.optional().describe('Records are removed when they are older, a whole segment at a time; seals and hashes stay. Default: 400d.'),
    max_size: size.optional().describe('The oldest segments are removed when all are larger together. Default: 10G.'),
    seal_interval: duration.optional().describe('Seconds between two seals at most, also when nothing happens. Default: 60s.'),
    export: z.array(exportSink).max(4).optional().describe('Where copies of the audit records go. The log itself stays where it is, and waits for nobody.'),
    witnesses: z.array(witness).max(8).optional().describe('Machines that are shown each checkpoint and refuse a changed history (`cordon witness`).'),
  }).optional().describe('The audit log.'),
}).superRefine((config, context) => {
  const names = (config.audit?.witnesses ?? []).map(({ name }) => name)
  for (const [index, name] of names.entries()) if (names.indexOf(name) < index) context.addIssue({ code: 'custom', path: ['audit', 'witnesses', index, 'name'], message: 'is the name of two witnesses', params: { code: 'POLICY_CONFLICT' } })
  const sinks = (config.audit?.export ?? []).map(({ kind, address }) => `${kind} ${address ?? ''}`)
  for (const [index, sink] of sinks.entries()) if (sinks.indexOf(sink) < index) context.addIssue({ code: 'custom', path: ['audit', 'export', index], message: 'is the same sink again', params: { code: 'POLICY_CONFLICT' } })
  const places = (['policies_dir', 'plugins_dir', 'state_dir', 'run_dir'] as const).map((field) => [field, config[field]] as const)
  for (const [index, [field, path]] of places.entries()) {
    const same = path === undefined ? undefined : places.slice(0, index).find(([, other]) => other === path)
    if (same !== undefined) context.addIssue({ code: 'custom', path: [field], message: `is the same as "${same[0]}"; each needs a directory of its own`, params: { code: 'POLICY_CONFLICT' } })
  }
}).describe('What holds for the whole host.')

/** @param host what parseListen returned */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || host.startsWith('127.')
}

/** @returns null when it is no ADDRESS:PORT with a literal address; port 0 picks one */
export function parseListen(text: string): { readonly host: string; readonly port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([0-9.]{7,15}|localhost)):([0-9]{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || (host !== 'localhost' && isIP(host) === 0) || port > 65_535 ? null : { host, port }
}
