import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { Server } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Confirm } from '../../src/cli/confirm.ts'
import type { CommandContext } from '../../src/cli/context.ts'
import { policyApply, policyDiff } from '../../src/cli/policy-apply.ts'
import { archivePolicy } from '../../src/launcher/policy-archive.ts'
import { loadPolicy, type LoadedPolicy, type LoadOptions } from '../../src/policy/load.ts'
import { DEFAULT_HOST_CONFIG } from '../../src/policy/load-host-config.ts'
import type { FromOperator } from '../../src/wire/requests.ts'
import { fakeDaemon, pluginStatus, statusAnswer } from './fake-daemon.ts'

const FIRST = 'plugin: demo\nexecutable: { path: /opt/demo }\n'
const API = `${FIRST}egress: { allow: [{ host: api.example.org, ports: [443], reason: its API }] }\n`

let dir = ''
let server: Server | null = null
let context: CommandContext
beforeEach(() => {
  dir = mkdtempSync('/tmp/cordon-cli-apply-')
  const config = { ...DEFAULT_HOST_CONFIG, runDir: dir, stateDir: dir, policiesDir: join(dir, 'plugin-policies') }
  mkdirSync(config.policiesDir)
  const load: LoadOptions = { presetsDir: join(import.meta.dirname, '../../policies'), own: config, ownership: 'reported' } // /tmp is open to all
  context = { config, configFile: null, signal: new AbortController().signal, tree: '/', load }
})
afterEach(() => {
  server?.close()
  rmSync(dir, { recursive: true, force: true })
})

function file(text: string): LoadedPolicy {
  const path = join(context.config.policiesDir, 'demo.yaml')
  writeFileSync(path, text)
  return loadPolicy(path, context.load)
}
/** In force and archived, as the daemon does it. */
function inForce(text: string, more: object = {}): object {
  const loaded = file(text)
  archivePolicy(dir, loaded, () => undefined)
  return pluginStatus('demo', { policyDigest: loaded.digest, ...more })
}
async function daemon(...plugins: object[]): Promise<FromOperator[]> {
  const fake = await fakeDaemon(dir, (request) => (request.type === 'status' ? statusAnswer(...plugins) : { ok: { closed: 1, held: [], live: true, restarted: false } }))
  server = fake.server
  return fake.asked
}
async function run(command: typeof policyDiff | typeof policyApply, args: string[], confirm: Confirm | null = null, json = false) {
  const out: string[] = []
  const err: string[] = []
  const status = await command(args, { out: (line) => out.push(line), err: (line) => err.push(line), json, color: false }, context, confirm)
  return { status, out: out.join('\n'), err: err.join('\n') }
}

describe('policy diff', () => {
  test('says in sentences what the file would change, and asks the daemon for nothing but its state', async () => {
    const asked = await daemon(inForce(`${FIRST}limits: { MemoryMax: 128M }\n`))
    const { digest } = file(`${API}limits: { MemoryMax: 64M }\n`)
    const { status, out } = await run(policyDiff, ['demo'])
    expect(status).toBe(1)
    expect(out).toContain(`${digest.slice(0, 12)} in the file`)
    expect(out).toMatch(/^- limits\.MemoryMax: 64M, before: 128M$/m)
    expect(out).toMatch(/^\+ egress: may reach: api\.example\.org on port 443/m)
    expect(out).toMatch(/^demo is started again for it/m)
    for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(80)
    expect(asked.map(({ type }) => type)).toEqual(['status'])
  })

  test('of rules alone needs no restart; of nothing ends with 0', async () => {
    await daemon(inForce(FIRST))
    file(API)
    expect((await run(policyDiff, ['demo'])).out).not.toContain('started again')
    file(FIRST)
    expect(await run(policyDiff, ['demo'])).toMatchObject({ status: 0, out: expect.stringContaining('nothing differs') as string })
  })

  test('names what the terminal changed and what ends with the next policy', async () => {
    await daemon(inForce(FIRST, { temporary: 2, learning: '2026-12-31T00:00:00Z' }))
    const { status, out } = await run(policyDiff, ['demo'])
    expect(status).toBe(1)
    expect(out.replace(/\s+/g, ' ')).toMatch(/~ 2 temporary changes of .* end with it .* ~ learning ends with it, which else lasts until 2026-12-31/)
  })

  test('without a known policy in force shows all of the file', async () => {
    await daemon(pluginStatus('demo', { policyDigest: 'd'.repeat(64) }))
    file(API)
    expect((await run(policyDiff, ['demo'])).out).toMatch(/not on record; all of the file:[^]*may reach: api\.example\.org/)
    server?.close()
    await daemon(pluginStatus('demo', { policyDigest: null, state: 'waiting', run: null }))
    expect((await run(policyDiff, ['demo'])).out).toContain('Nothing is in force; all of this is new:')
  })

  test('of a file that is no policy shows its problems instead', async () => {
    await daemon(inForce(FIRST))
    writeFileSync(join(context.config.policiesDir, 'demo.yaml'), `${FIRST}limts: {}\n`)
    await expect(run(policyDiff, ['demo'])).rejects.toMatchObject({ code: 'POLICY_INVALID' })
    await expect(run(policyDiff, [])).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
  })
})

describe('policy apply', () => {
  test('applies exactly the digest that was shown, also when the file changes while somebody reads', async () => {
    const asked = await daemon(inForce(FIRST))
    const { digest } = file(API)
    const { status, out } = await run(policyApply, ['demo'], async (question) => {
      expect(question).toBe('Apply this to demo?')
      file(API.replace('443', '8443'))
      return true
    })
    expect(status).toBe(0)
    expect(asked.at(-1)).toMatchObject({ type: 'apply', plugin: 'demo', digest })
    expect(out).toContain(`applied: policy ${digest.slice(0, 12)}`)
    expect(out).toContain('1 open connection ended by it')
  })

  test('a no changes nothing; where nobody can be asked, --yes is needed', async () => {
    const asked = await daemon(inForce(FIRST))
    file(API)
    expect(await run(policyApply, ['demo'], async () => false)).toMatchObject({ status: 1, err: expect.stringMatching(/^nothing was applied$/m) as string })
    await expect(run(policyApply, ['demo'], null)).rejects.toMatchObject({ code: 'USAGE_BAD_OPTION' })
    expect(asked.filter(({ type }) => type === 'apply')).toEqual([])
    expect((await run(policyApply, ['demo', '--yes'])).status).toBe(0)
    expect(asked.filter(({ type }) => type === 'apply')).toHaveLength(1)
  })

  test('of what is in force already asks nobody', async () => {
    const asked = await daemon(inForce(FIRST))
    expect((await run(policyApply, ['demo'], async () => { throw new Error('asked') })).status).toBe(0)
    expect(asked).toHaveLength(1)
  })

  test('as JSON has the difference in parts', async () => {
    await daemon(inForce(FIRST))
    const { digest } = file(API)
    const lines = (await run(policyApply, ['demo', '--yes'], null, true)).out.split('\n').map((line) => JSON.parse(line) as object)
    expect(lines).toMatchObject([{ plugin: 'demo', file: digest, restarts: false, changes: [{ sign: '+', field: 'egress' }] }, { applied: digest, closed: 1 }])
  })
})
