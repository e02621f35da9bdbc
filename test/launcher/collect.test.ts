import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { NAMING_TYPES, unnamedBy, type NamedMemory } from '../../src/audit/named.ts'
import type { AuditEvent } from '../../src/audit/record.ts'
import { collect, type Collected, type CollectOptions } from '../../src/launcher/collect.ts'
import { archivePolicy } from '../../src/launcher/policy-archive.ts'
import { cleanStore, storeExecutable } from '../../src/launcher/store.ts'
import { policyDigest } from '../../src/policy/load.ts'
import type { Policy } from '../../src/policy/policy.ts'
import { openLog, tempDir } from '../audit/kit.ts'
import { loose } from '../audit/loose.ts'

const NOTHING = { programs: new Set<string>(), policies: new Set<string>() }
const OLD = new Date(Date.now() - 2 * 3_600_000)

interface World {
  readonly stateDir: string
  readonly auditDir: string
  program(body: string): Promise<string>
  policy(say: string): string
  append(...events: readonly AuditEvent[]): Promise<void>
  collect(options?: Partial<CollectOptions>): Promise<Collected>
}

/** A state directory with a store, an archive of policies and a log. */
async function world(): Promise<World> {
  const stateDir = tempDir()
  const auditDir = join(stateDir, 'audit')
  const log = await openLog({ dir: auditDir, keysDir: join(stateDir, 'keys'), segmentBytes: 20_000, retention: { keepMs: 1e12, maxBytes: 60_000 }, mode: 'daemon' })
  onTestFinished(() => log.close())
  return {
    stateDir, auditDir,
    program: async (body) => {
      const source = join(stateDir, 'program')
      writeFileSync(source, body)
      chmodSync(source, 0o755)
      const { path, sha256 } = await storeExecutable({ path: source, entry: null, sha256: null }, join(stateDir, 'store'))
      utimesSync(path, OLD, OLD)
      return sha256
    },
    policy: (say) => {
      const policy = { plugin: 'image', say } as unknown as Policy
      const digest = policyDigest(policy)
      archivePolicy(stateDir, { digest, policy }, (message) => { throw new Error(message) })
      utimesSync(join(stateDir, 'policies', `${digest}.json`), OLD, OLD)
      return digest
    },
    append: async (...events) => {
      for (const event of events) await log.append(event, 'launcher')
    },
    collect: (options = {}) => collect({ stateDir, audit: log, memory: new Map(), inUse: () => NOTHING, signal: new AbortController().signal, ...options }),
  }
}

const stored = (sha256: string): AuditEvent => ({ type: 'executable.stored', plugin: 'image', sha256, kind: 'file', bytes: 1, path: '/p', pinned: false })
const loaded = (digest: string, previous: string | null = null): AuditEvent => ({ type: 'policy.loaded', plugin: 'image', policy_digest: digest, file: 'f', previous, changes: [], more_changes: 0 })
const noise = loose({ type: 'admin.act', text: 'x'.repeat(1000) })
const has = ({ stateDir }: World, sha256: string): boolean => existsSync(join(stateDir, 'store/sha256', sha256))
const hasPolicy = ({ stateDir }: World, digest: string): boolean => existsSync(join(stateDir, 'policies', `${digest}.json`))
const recordsOf = ({ auditDir }: World): string => readdirSync(join(auditDir, 'records')).map((name) => readFileSync(join(auditDir, 'records', name), 'utf8')).join('')

describe('programs and compiled policies', () => {
  test('go once the records that named them were pruned; what a record still names stays', async () => {
    const host = await world()
    const [old, kept] = [await host.program('old'), await host.program('kept')]
    const [oldPolicy, keptPolicy, before] = [host.policy('old'), host.policy('kept'), host.policy('the one before')]
    await host.append(stored(old), stored(kept), loaded(oldPolicy))
    // Control: as long as the records are there, nothing goes.
    expect(await host.collect()).toEqual({ programs: [], policies: [keptPolicy, before] })
    host.policy('kept')
    host.policy('the one before')
    for (let i = 0; i < 200; i++) await host.append(noise, ...(i === 190 ? [{ type: 'plugin.start', plugin: 'image', run: 'r', policyDigest: keptPolicy, sha256: kept, generation: '2' } as const, loaded(keptPolicy, before)] : []))
    await expect.poll(() => recordsOf(host).includes(old), { timeout: 20_000 }).toBe(false)
    expect(await host.collect()).toEqual({ programs: [old], policies: [oldPolicy] })
    expect([has(host, old), has(host, kept), hasPolicy(host, oldPolicy), hasPolicy(host, keptPolicy), hasPolicy(host, before)]).toEqual([false, true, false, true, true])
    expect(recordsOf(host)).toContain(`"data":{"policies":["${oldPolicy}"],"programs":["${old}"]}`)
    expect(readdirSync(join(host.stateDir, 'store'))).toEqual(['sha256'])
  })

  test('stay while they run, are in force, or were taken from the store a moment ago', async () => {
    const host = await world()
    const [runs, fresh, idle] = [await host.program('runs'), await host.program('fresh'), await host.program('idle')]
    const [inForce, idlePolicy] = [host.policy('in force'), host.policy('idle')]
    await host.program('fresh')
    utimesSync(join(host.stateDir, 'store/sha256', fresh), new Date(), new Date())
    const inUse = { programs: new Set([runs]), policies: new Set([inForce]) }
    expect(await host.collect({ inUse: () => inUse })).toEqual({ programs: [idle], policies: [idlePolicy] })
    expect([has(host, runs), has(host, fresh), hasPolicy(host, inForce)]).toEqual([true, true, true])
  })

  test('stay when they are taken while the log is still read', async () => {
    const host = await world()
    const [taken, needed, control] = [await host.program('taken'), await host.program('needed'), await host.program('control')]
    let asked = 0
    const found = await host.collect({
      inUse: () => {
        asked += 1
        if (asked < 3) return NOTHING // when it begins, and when the log was read
        utimesSync(join(host.stateDir, 'store/sha256', taken), new Date(), new Date()) // as storeExecutable() does
        return { ...NOTHING, programs: new Set([needed]) }
      },
    })
    expect(found.programs).toEqual([control])
    expect([has(host, taken), has(host, needed)]).toEqual([true, true])
  })

  test('using one from the store sets its time anew, so that the next collection leaves it', async () => {
    const host = await world()
    const sha256 = await host.program('again')
    await storeExecutable({ path: join(host.stateDir, 'program'), entry: null, sha256: null }, join(host.stateDir, 'store'))
    const digest = host.policy('again')
    archivePolicy(host.stateDir, { digest, policy: { plugin: 'image', say: 'again' } as unknown as Policy }, () => undefined)
    expect(await host.collect()).toEqual({ programs: [], policies: [] })
    expect(has(host, sha256)).toBe(true)
  })

  test('a tree goes with its links, and what they point to stays', async () => {
    const host = await world()
    const source = join(host.stateDir, 'tree')
    const outside = join(host.stateDir, 'outside')
    mkdirSync(join(source, 'lib'), { recursive: true })
    mkdirSync(outside)
    writeFileSync(join(outside, 'precious'), 'x')
    writeFileSync(join(source, 'start'), '#!/bin/sh\n', { mode: 0o755 })
    symlinkSync('lib', join(source, 'lib64'))
    const { path, sha256 } = await storeExecutable({ path: source, entry: 'start', sha256: null }, join(host.stateDir, 'store'))
    symlinkSync(outside, join(path, 'out')) // storeExecutable() takes no such link
    utimesSync(path, OLD, OLD)
    expect(await host.collect()).toEqual({ programs: [sha256], policies: [] })
    expect(existsSync(path)).toBe(false)
    expect(readdirSync(outside)).toEqual(['precious'])
  })

  test('a program that the log of a single run names stays as long as that log', async () => {
    const host = await world()
    const sha256 = await host.program('single run')
    const dir = join(host.stateDir, 'runs/0123456789abcdef')
    mkdirSync(join(host.stateDir, 'runs'))
    const log = await openLog({ dir, keysDir: join(host.stateDir, 'run-keys') })
    await log.append({ type: 'run.started', run: 'r', policyDigest: 'd', plan_digest: 'p', who: 'root', uid: 1, program: './x', sha256, arguments: [] }, 'operator')
    await log.close()
    expect((await host.collect()).programs).toEqual([])
    expect(has(host, sha256)).toBe(true)
  })

  test('nothing goes that is not on record first, and the next collection does it', async () => {
    const host = await world()
    const sha256 = await host.program('unrecorded')
    const audit = { append: () => Promise.reject(new Error('the disk is full')), note: () => undefined }
    await expect(host.collect({ audit })).rejects.toThrow('the disk is full')
    expect(has(host, sha256)).toBe(true)
    expect((await host.collect()).programs).toEqual([sha256])
  })

  test('nothing goes while a part of the log cannot be read', async () => {
    const host = await world()
    const sha256 = await host.program('unknown')
    await host.append(stored(sha256))
    mkdirSync(join(host.auditDir, 'records/0000000000009999.jsonl'))
    await expect(host.collect()).rejects.toMatchObject({ code: 'AUDIT_UNAVAILABLE' })
    expect(has(host, sha256)).toBe(true)
  })

  test('a store that others could write is left alone', async () => {
    const host = await world()
    const sha256 = await host.program('open')
    chmodSync(join(host.stateDir, 'store/sha256'), 0o777)
    await expect(host.collect()).rejects.toMatchObject({ code: 'STORE_CORRUPT' })
    expect(has(host, sha256)).toBe(true)
  })

  test('what was on its way out when the daemon was killed is cleaned up at the next start', async () => {
    const host = await world()
    await host.program('any')
    mkdirSync(join(host.stateDir, 'store/tmp-999999999-abcdef'))
    expect(await cleanStore(join(host.stateDir, 'store'))).toBe(1)
  })
})

describe('which digests records name', () => {
  const digest = (text: string): string => createHash('sha256').update(text).digest('hex')
  const unnamed = async (host: World, ...digests: string[]): Promise<string[]> => [...(await unnamedBy([host.auditDir], digests, new Map(), new AbortController().signal))]

  test('every type of the launcher that names a program or policy counts', () => {
    expect([...NAMING_TYPES].sort()).toEqual(['admin.act', 'egress.applied', 'evidence.gathered', 'executable.stored', 'isolation.attested', 'log.pruned', 'plugin.exited', 'plugin.start', 'policy.loaded', 'run.started'])
  })

  test('a digest in the words of a plugin names nothing, in its own field it does', async () => {
    const host = await world()
    const [said, meant] = [digest('said'), digest('meant')]
    await host.append(loose({ type: 'plugin.failed', plugin: 'image', reason: `","sha256":"${said}"` }), loose({ type: 'plugin.failed', plugin: 'image', sha256: said, reason: 'r' }), { ...stored(meant), path: `"sha256":"${said}"` } as AuditEvent)
    expect(await unnamed(host, said, meant)).toEqual([said])
  })

  test('closed segments are read once, and forgotten when they are gone', async () => {
    const host = await world()
    const named = digest('named')
    await host.append(stored(named))
    for (let i = 0; i < 40; i++) await host.append(noise)
    const memory: NamedMemory = new Map()
    const read = (): Promise<Set<string>> => unnamedBy([host.auditDir], [digest('nobody')], memory, new AbortController().signal)
    await read()
    const first = join(host.auditDir, 'records/0000000000000000.jsonl')
    expect(memory.get(first)).toEqual(new Set([named]))
    const open = readdirSync(join(host.auditDir, 'records')).sort().at(-1) ?? ''
    expect(memory.has(join(host.auditDir, 'records', open))).toBe(false)
    memory.set(join(host.auditDir, 'records/0000000000000007.jsonl'), new Set())
    await read()
    expect(memory.has(join(host.auditDir, 'records/0000000000000007.jsonl'))).toBe(false)
  })
})
