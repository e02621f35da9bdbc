import { beforeEach, describe, expect, test } from 'vitest'
import type { AuditEvent, AuditSink } from '../../src/audit/record.ts'
import type { Egress } from '../../src/base/egress-rule.ts'
import type { HostName } from '../../src/base/host-name.ts'
import type { PluginName } from '../../src/base/ids.ts'
import { decideName } from '../../src/egress/rules.ts'
import type { DoorKeeper } from '../../src/launcher/door-keeper.ts'
import { EgressActs } from '../../src/launcher/egress-acts.ts'
import type { Supervisor } from '../../src/launcher/supervisor.ts'
import { compileMatch } from '../../src/policy/egress.ts'
import { effectiveEgress, NO_OVERLAY, type EgressOverlay } from '../../src/policy/overlay.ts'

const PLUGIN = 'mine' as PluginName
const HOUR = 3_600_000
const soon = (): string => new Date(Date.now() + HOUR).toISOString().replace(/\.\d{3}Z$/, 'Z')

let overlay: EgressOverlay = NO_OVERLAY
let file: Egress
let records: AuditEvent[] = []
beforeEach(() => {
  overlay = NO_OVERLAY
  records = []
})

/** A policy file with these rules, as `api.example.org:443,80`. */
function policy(...rules: string[]): EgressActs {
  file = {
    mode: 'enforce', until: null,
    allow: rules.map((text, index) => {
      const at = text.lastIndexOf(':')
      const match = compileMatch(text.includes('/') ? { cidr: text.slice(0, at) } : { host: text.slice(0, at) })
      if ('why' in match) throw new Error(match.why)
      return { id: index + 1, match, ports: text.slice(at + 1).split(',').map(Number), private: false, tls: 'auto', ech: false, until: null, reason: 'the test' } as const
    }),
  }
  const audit = { append: async (event: AuditEvent) => void records.push(event), note: (event: AuditEvent) => void records.push(event) } as unknown as AuditSink
  const plugin = { get policy() { return { policy: { egress: file } } }, retune: async () => ({ closed: 0, held: [] }), status: () => ({ run: null }) } as unknown as Supervisor
  return new EgressActs({ overlays: { of: () => overlay, set: (_, next) => { overlay = next } }, doors: {} as DoorKeeper, audit, plugin: () => plugin })
}

const deny = (acts: EgressActs, destination: string | null, port: number | null = null): Promise<unknown> => acts.deny({ type: 'deny', plugin: PLUGIN, destination, port, who: 'root' }, { who: 'root' })
const allow = (acts: EgressActs, destination: string, port: number, lifts = false): Promise<unknown> => acts.allow({ type: 'allow', plugin: PLUGIN, destination, port, private: lifts, until: soon(), reason: 'x', who: 'root' }, { who: 'root' })
const learn = (acts: EgressActs): Promise<unknown> => acts.learn({ type: 'learn', plugin: PLUGIN, until: soon(), who: 'root' }, { who: 'root' })
const open = (now = Date.now()): string[] => effectiveEgress(file, overlay, now).allow.flatMap(({ match, ports }) => ports.map((port) => `${match.kind === 'host' ? match.name : match.kind}:${port}`))

describe('allow', () => {
  test('--private lifts private addresses of a destination that the file opens already, and takes nothing of it', async () => {
    const acts = policy('git.example.org:443')
    file = { ...file, allow: file.allow.map((rule) => ({ ...rule, tls: 'off' })) }
    const decision = () => decideName(effectiveEgress(file, overlay, Date.now()), 'git.example.org' as HostName, 443, Date.now())
    expect(decision()).toMatchObject({ verdict: 'allow', rule: 1, permit: { private: false, tls: 'off' } })
    await allow(acts, 'git.example.org', 443, true)
    expect(decision()).toMatchObject({ verdict: 'allow', permit: { private: true, tls: 'off' } })
    await allow(acts, 'git.example.org', 443) // the later order is the one that holds
    expect(decision()).toMatchObject({ verdict: 'allow', rule: 1, permit: { private: false, tls: 'off' } })
  })
})

describe('deny', () => {
  test('takes away what the file says, and says that the file says so still', async () => {
    const acts = policy('api.example.org:80,443', 'other.example.org:443')
    expect(await deny(acts, 'api.example.org', 443)).toMatchObject({ inFile: true, others: [] })
    expect(open()).toEqual(['api.example.org:80', 'other.example.org:443'])
    expect(await acts.show({ type: 'egress', plugin: PLUGIN })).toMatchObject({ denied: ['api.example.org:443'] })
    expect(await deny(acts, 'api.example.org')).toMatchObject({ inFile: true })
    expect(open()).toEqual(['other.example.org:443'])
  })

  test('of what only the terminal had allowed promises nothing of the file', async () => {
    const acts = policy('api.example.org:443')
    await allow(acts, 'a.example.net', 443)
    expect(await deny(acts, 'a.example.net', 443)).toMatchObject({ inFile: false, others: [] })
    expect(overlay).toEqual(NO_OVERLAY)
  })

  test('outlasts what is allowed again for a while', async () => {
    const acts = policy('api.example.org:443')
    await deny(acts, 'api.example.org', 443)
    await allow(acts, 'api.example.org', 443)
    expect(open()).toEqual(['api.example.org:443'])
    expect(open(Date.now() + 2 * HOUR)).toEqual([])
    acts.forget(PLUGIN)
    expect(open()).toEqual(['api.example.org:443'])
  })

  test.each([
    ['a wildcard', ['api.example.org:443', '*.example.org:443'], 'api.example.org', 443, /wider rule \*\.example\.org/],
    ['every public name', ['api.example.org:443', 'public:443'], 'api.example.org', 443, /wider rule public/],
    ['every public name, at some port', ['public:443'], 'api.example.org', null, /wider rule public on 443/],
    ['a longer block', ['10.0.5.7/32:5432', '10.0.0.0/8:5432'], '10.0.5.7/32', 5432, /wider rule 10\.0\.0\.0\/8/],
    ['a wildcard above a wildcard', ['*.a.example.org:443', '*.example.org:443'], '*.a.example.org', 443, /wider rule \*\.example\.org/],
  ] as const)('refuses and changes nothing where it would be let through all the same by %s', async (_, rules, destination, port, why) => {
    const acts = policy(...rules)
    const before = open()
    await expect(deny(acts, destination, port)).rejects.toMatchObject({ code: 'EGRESS_COVERED', message: expect.stringMatching(why) as string })
    expect([open(), overlay, records]).toEqual([before, NO_OVERLAY, []])
  })

  test('refuses where learning lets it through, with and without a rule; --all ends that', async () => {
    const acts = policy('api.example.org:443', 'db.internal:443')
    await learn(acts)
    for (const name of ['api.example.org', 'never.example.net']) await expect(deny(acts, name, 443)).rejects.toMatchObject({ code: 'EGRESS_COVERED', message: expect.stringContaining('learning') as string })
    expect(await deny(acts, 'db.internal', 443)).toMatchObject({ inFile: true }) // learning opens public names alone
    expect(await deny(acts, null)).toMatchObject({ inFile: true })
    expect([open(), effectiveEgress(file, overlay, Date.now()).mode]).toEqual([[], 'enforce'])
    const bare = policy()
    await learn(bare)
    await deny(bare, null)
    expect(effectiveEgress(file, overlay, Date.now()).mode).toBe('enforce')
  })

  test('says what narrower rules still let through, also where no rule says just this', async () => {
    const acts = policy('*.example.org:443', 'api.example.org:443', 'www.example.org:80')
    expect(await deny(acts, '*.example.org', 443)).toMatchObject({ others: ['the rule api.example.org on 443'] })
    await expect(deny(acts, '*.example.org')).rejects.toMatchObject({ code: 'EGRESS_BAD_DESTINATION', message: expect.stringMatching(/api\.example\.org on 443; the rule www\.example\.org on 80/) as string })
    await expect(deny(acts, 'never.example.net', 443)).rejects.toMatchObject({ code: 'EGRESS_BAD_DESTINATION', message: expect.stringContaining('refused already') as string })
  })

  test('--all forgets no destination, however many there are', async () => {
    const acts = policy(...Array.from({ length: 256 }, (_, n) => `n${n}.example.org:80,443`))
    await deny(acts, null)
    expect(open()).toEqual([])
  })
})
