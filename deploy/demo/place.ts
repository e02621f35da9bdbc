import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { chmod, cp, lstat, mkdir, mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { promisify } from 'node:util'
import { patient } from './patience.ts'

const run = promisify(execFile)
const TREE = join(import.meta.dirname, '..', '..')
export const SAMPLES = ['notes', 'clock', 'count', 'hostile'] as const

/** Apart from the range of an installed Cordon (1880000000 and up), whose users these are not. */
const UIDS = { first: 1_879_000_000, count: 64 }
/** Only root can write to these two: policies are believed only below such directories, and socket paths must be short. */
const STATE_PARENT = '/var/lib'
const RUN_PARENT = '/run'
const FIRST_PORT = 8480
const PORTS_TRIED = 50

export interface Place {
  /** Holds all but sockets. */
  readonly base: string
  readonly runDir: string
  readonly configFile: string
  readonly policiesDir: string
  readonly port: number
}

/**
 * One demo at a time on this machine: two would want the same users. An abstract socket needs no file and ends with us.
 * @throws Error when another demo runs
 */
export async function claimMachine(): Promise<void> {
  const server = createServer().unref()
  const claimed = await new Promise<boolean>((done) => {
    server.once('error', () => done(false))
    server.listen('\0cordon-demo', () => done(true))
  })
  if (!claimed) throw new Error('another demo is running on this machine')
  await removeLeftovers()
}

/** What a demo left that was killed: nobody runs one now, so all of it is dead. */
async function removeLeftovers(): Promise<void> {
  const named = async (parent: string) => (await readdir(parent)).filter((name) => name.startsWith('cordon-demo.')).map((name) => join(parent, name))
  const left: string[] = []
  for (const base of await named(STATE_PARENT)) left.push(...await removePlace({ base, runDir: null }))
  for (const runDir of await named(RUN_PARENT)) left.push(...await removePlace({ base: null, runDir }))
  if (left.length > 0) throw new Error(`could not remove what an earlier demo left: ${left.join(', ')}`)
}

/** Private directories with samples, policies and configuration in them. On failure nothing of them stays. */
export async function makePlace(): Promise<Place> {
  const base = await mkdtemp(join(STATE_PARENT, 'cordon-demo.'))
  const runDir = await mkdtemp(join(RUN_PARENT, 'cordon-demo.'))
  const place = { base, runDir, configFile: `${base}/cordon.yaml`, policiesDir: `${base}/policies`, port: await freePort() }
  try {
    for (const directory of [base, runDir]) await chmod(directory, 0o755)
    for (const name of ['policies', 'state', 'plugins', 'node', 'node/bin']) await mkdir(join(base, name), { mode: 0o755 })
    await run(join(TREE, 'deploy/samples/build.sh'), [`${base}/plugins`], { timeout: patient(120_000) })
    // Node of the checkout, which may belong to a user; what a policy names as runtime must be root's.
    await cp(process.execPath, `${base}/node/bin/node`)
    await chmod(`${base}/node/bin/node`, 0o755)
    for (const name of SAMPLES) {
      const template = await readFile(join(TREE, `deploy/samples/policies/${name}.yaml`), 'utf8')
      const policy = await filled(template, base, name)
      await writeFile(`${place.policiesDir}/${name}.yaml`, policy, { mode: 0o644 })
    }
    await writeFile(place.configFile, configText(place), { mode: 0o644 })
    return place
  } catch (error) {
    await removePlace(place)
    throw error
  }
}

/** @returns what could not be removed, in words */
export async function removePlace({ base, runDir }: { base: string | null; runDir: string | null }): Promise<string[]> {
  const left: string[] = []
  if (base !== null) await removeUsers(base).catch((error: unknown) => left.push(`the OS users of the demo: ${String(error)}`))
  for (const directory of [runDir, base]) {
    if (directory === null) continue
    // A host that was killed left the open segment of its audit log append-only.
    await run('chattr', ['-R', '-f', '-a', `${directory}/state/audit/records`]).catch(() => undefined) // no log, or no such attribute there; where it stays, the next step fails and that is told
    // One file system only: if a mount was left behind, its content is not ours to delete.
    await run('rm', ['-rf', '--one-file-system', '--', directory]).catch(() => undefined) // what counts is whether it is gone
    if (await lstat(directory).then(() => true, () => false)) left.push(directory)
  }
  return left
}

/** The users that Cordon made for this demo: recorded in its ledger, in the demo's own range, and of its naming. */
async function removeUsers(base: string): Promise<void> {
  const ledger = await readFile(`${base}/state/uids.jsonl`, 'utf8').catch(() => '') // absent: the host never came to make one
  const recorded = new Set(ledger.split('\n').map((text) => Number(/"uid":(\d+)/.exec(text)?.[1])))
  for (const database of ['passwd', 'group'] as const) {
    const { stdout } = await run('getent', [database], { maxBuffer: 64 * 1024 * 1024 })
    for (const entry of stdout.split('\n')) {
      const [name = '', , id] = entry.split(':')
      const number = Number(id)
      if (!name.startsWith('cordon-p-') || !recorded.has(number) || number < UIDS.first || number >= UIDS.first + UIDS.count) continue
      await run(database === 'passwd' ? '/usr/sbin/userdel' : '/usr/sbin/groupdel', [name])
    }
  }
}

async function filled(template: string, base: string, name: string): Promise<string> {
  const text = template.replaceAll('@PLUGINS@', `${base}/plugins`).replaceAll('@NODE@', `${base}/node`)
  return text.includes('@SHA256@') ? text.replaceAll('@SHA256@', await sha256(`${base}/plugins/${name}`)) : text
}

async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}

function configText({ base, runDir, policiesDir, port }: Place): string {
  return `listen: 127.0.0.1:${port}
policies_dir: ${policiesDir}
plugins_dir: ${base}/plugins
state_dir: ${base}/state
run_dir: ${runDir}
uids: { first: ${UIDS.first}, count: ${UIDS.count} }
`
}

async function freePort(): Promise<number> {
  for (let port = FIRST_PORT; port < FIRST_PORT + PORTS_TRIED; port++) {
    const server = createServer()
    const free = await new Promise<boolean>((done) => {
      server.once('error', () => done(false))
      server.listen(port, '127.0.0.1', () => server.close(() => done(true)))
    })
    if (free) return port
  }
  throw new Error(`no free port from ${FIRST_PORT} to ${FIRST_PORT + PORTS_TRIED - 1} on 127.0.0.1`)
}
