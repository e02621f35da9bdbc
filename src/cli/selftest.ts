import { execFile } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import type { Readable } from 'node:stream'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import { makeDataDir } from '../launcher/bundle.ts'
import { enterNamespaces, hasEntered } from '../launcher/enter.ts'
import type { LaunchHost } from '../launcher/host.ts'
import { openRun } from '../launcher/open-run.ts'
import { requireRoot } from '../launcher/preflight.ts'
import { makeSlot } from '../launcher/slots.ts'
import { storeExecutable } from '../launcher/store.ts'
import { compileCommand } from '../plan/compile.ts'
import { INSIDE } from '../plan/mounts.ts'
import { finishRaw, type LoadedPolicy, type LoadOptions } from '../policy/load.ts'
import { byWall, completeReport, type Attempt } from './attempts.ts'
import { noArguments } from './args.ts'
import type { CommandContext } from './context.ts'
import type { CommandIo } from './io.ts'
import { withPrivateHost } from './private-host.ts'
import { withProgress } from './progress.ts'
import { wrap } from './table.ts'

const NAME = 'selftest' as PluginName
const TASKS = 32
/** More than TasksMax, so that the wall and not the end of the attempt stops it; bounded, because the control makes them all. */
const FORKS = 64
/** All attempts take two seconds; an emulated machine needs minutes. */
const LIMIT_MS = 600_000
const REPORT_MAX_BYTES = 1024 * 1024

/**
 * `cordon selftest`: a hostile program against every wall, behind exactly what a plugin stands behind, and the same program outside
 * as a control: an attempt that nothing could ever make succeed would prove nothing.
 * @returns 0 only if every wall held and the control shows that attempts can succeed; else 1
 * @throws CordonError HOST_*, LAUNCH_*, SELFTEST_ABSENT, SELFTEST_INCOMPLETE
 */
export async function selftestCommand(args: readonly string[], io: CommandIo, context: CommandContext): Promise<number> {
  noArguments('selftest', args)
  requireRoot()
  const program = `${context.tree}/deploy/samples/hostile`
  if (!existsSync(program)) throw new CordonError('SELFTEST_ABSENT', `${program} does not exist`)
  if (!hasEntered()) enterNamespaces(null)
  // Uid, content store and data of its own, below the private run directory: the host's state is not touched.
  const { inside, outside } = await withPrivateHost({ ...context.config, stateDir: context.config.runDir }, async (host, runDir) => ({
    inside: await withProgress(io, 'behind the walls', behindWalls(host, runDir, program, context.load, context.signal)),
    outside: await withProgress(io, 'outside, as a control', outsideWalls(host.users.own.probe, program, context.signal)),
  }))
  const walls = byWall(inside).map((wall) => ({
    ...wall,
    passedOutside: outside.filter((one) => one.wall === wall.name && one.verdict === 'BROKEN').length,
  }))
  const tried = walls.reduce((sum, { made }) => sum + made, 0)
  const passed = walls.reduce((sum, { passedOutside }) => sum + passedOutside, 0)
  const open = walls.filter(({ held }) => !held).map(({ name }) => name)
  if (io.json) {
    io.out(JSON.stringify({ held: open.length === 0, tried, passed_outside: passed, walls: walls.map(({ name, held, made, passedOutside }) => ({ name, held, tried: made, passed_outside: passedOutside })), attempts: inside }))
  } else {
    for (const wall of walls) for (const line of describe(wall, io.color)) io.out(line)
    for (const line of details(inside)) io.out(line)
    io.out('')
    io.out(open.length === 0 ? `${tried} attempts behind the walls: every wall held.` : `These walls did NOT hold: ${open.join(', ')}.`)
    io.out(`Control: outside the walls ${passed} of these succeed.`)
  }
  if (passed === 0) io.err('error: the control shows nothing: no attempt succeeds outside either')
  return open.length === 0 && passed > 0 ? 0 : 1
}

async function behindWalls(host: LaunchHost, runDir: string, program: string, load: LoadOptions, signal: AbortSignal): Promise<Attempt[]> {
  const uid = host.users.own.probe
  const dataPath = `${runDir}/data`
  makeDataDir(dataPath, uid)
  const stored = await storeExecutable({ path: program, entry: null, sha256: null }, `${runDir}/store`)
  const loaded = policy(load)
  const slot = await makeSlot({ bundlesDir: host.bundlesDir, networksDir: `${runDir}/net`, socketsDir: host.socketsDir, ipv6: host.facts.ipv6 }, host)
  const open = await openRun(host, slot, {
    uid, group: NAME, object: { path: stored.path, entry: null }, dataPath, door: null,
    compile: (places) => compileCommand(loaded.policy, host.facts, places, [program, '--all', '--json']),
  })
  try {
    const run = await open.start()
    const limit = AbortSignal.any([signal, AbortSignal.timeout(LIMIT_MS)])
    const kill = (): void => void run.kill()
    limit.addEventListener('abort', kill)
    const [report, words] = [bounded(run.stdout), bounded(run.stderr)]
    run.release()
    const exit = await run.exited
    limit.removeEventListener('abort', kill)
    run.stdin.destroy()
    signal.throwIfAborted()
    return parseReport(await report, `behind the walls it ended with ${exit.text}: ${printable((await words).trim(), 500)}`)
  } finally {
    await open.remove()
  }
}

/** What an operator would write for a program that asks for nothing: limits, and no grant at all. */
function policy(load: LoadOptions): LoadedPolicy {
  return finishRaw({
    plugin: NAME,
    executable: { path: '/usr/bin/true' }, // what runs instead is the sample, from the content store
    limits: { MemoryMax: '96M', CPUQuota: '100%', TasksMax: TASKS, LimitNOFILE: 256, TmpMax: '8M' },
    env: { CORDON_PROBE_FORKS: String(FORKS), CORDON_PROBE_DATA: INSIDE.data, CORDON_PROBE_SOCKETS: INSIDE.socketDir },
  }, '(cordon selftest)', load)
}

/** The same attempts by a user without rights on this machine; nothing is sent anywhere (the sample leaves that out without walls). */
async function outsideWalls(uid: number, program: string, signal: AbortSignal): Promise<Attempt[]> {
  const dir = mkdtempSync(`${tmpdir()}/cordon-selftest.`)
  try {
    chmodSync(dir, 0o755)
    const copy = `${dir}/hostile` // the tree itself may lie where that user cannot look
    copyFileSync(program, copy)
    chmodSync(copy, 0o755)
    for (const name of ['data', 'sockets']) {
      mkdirSync(`${dir}/${name}`, { mode: 0o700 })
      chownSync(`${dir}/${name}`, uid, uid)
    }
    const env = { PATH: '/usr/bin:/bin', CORDON_PROBE_FORKS: String(FORKS), CORDON_PROBE_DATA: `${dir}/data`, CORDON_PROBE_SOCKETS: `${dir}/sockets` }
    const args = ['--reuid', String(uid), '--regid', String(uid), '--clear-groups', '--bounding-set=-all', '--', '/usr/bin/perl', copy, '--all', '--json']
    const report = await new Promise<string>((done, fail) => {
      // Its exit status is 1 where a wall is missing, and here all are.
      execFile('/usr/bin/setpriv', args, { env, cwd: dir, encoding: 'utf8', timeout: LIMIT_MS, signal, killSignal: 'SIGKILL', maxBuffer: REPORT_MAX_BYTES }, (error, stdout) => {
        if (error !== null && stdout === '') fail(error)
        else done(stdout)
      })
    })
    return parseReport(report, 'outside the walls it did not end well')
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}

function parseReport(report: string, otherwise: string): Attempt[] {
  try {
    return completeReport(report.trim().split('\n').map((line) => JSON.parse(line) as unknown))
  } catch (error) {
    throw new CordonError('SELFTEST_INCOMPLETE', `${otherwise} (${printable(error instanceof Error ? error.message : String(error))})`, { cause: error })
  }
}

/** All that it printed, or its beginning; the rest is read and dropped, for a full pipe would stop it. Never rejects. */
function bounded(stream: Readable): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  stream.on('data', (chunk: Buffer) => {
    if (bytes < REPORT_MAX_BYTES) chunks.push(chunk)
    bytes += chunk.length
  })
  stream.on('error', () => {}) // 'close' follows; what is missing then shows in the report
  return new Promise((done) => stream.once('close', () => done(Buffer.concat(chunks).toString('utf8'))))
}

const INDENT = ' '.repeat(18)

function describe(wall: ReturnType<typeof byWall>[number] & { passedOutside: number }, color: boolean): string[] {
  const word = wall.held ? paint('held', 32, color) : paint('OPEN', 31, color)
  const example = wall.example === null ? '' : `, such as: ${wall.example.tried} (${wall.example.result})`
  const outside = wall.passedOutside === 0 ? '' : `; outside ${wall.passedOutside} succeed${wall.passedOutside === 1 ? 's' : ''}`
  const [first = '', ...more] = wrap(`${wall.made} attempt${wall.made === 1 ? '' : 's'}${example}${outside}`, 80 - INDENT.length)
  return [`${word}  ${wall.name.padEnd(12)}${first}`, ...more.map((line) => `${INDENT}${line}`)]
}

/** What got through, and what could not be tried, each in a line or two. */
function details(attempts: readonly Attempt[]): string[] {
  const row = (word: string, { wall, tried }: Attempt, then: string): string[] => wrap(`${word}  ${wall.padEnd(12)}${tried}: ${then}`, 80, INDENT)
  return attempts.flatMap((one) => {
    if (one.verdict === 'BROKEN') return row('OPEN', one, `${one.result}, expected ${one.expected.join(' or ')}`)
    return one.verdict === 'not-applicable' ? row('n/a ', one, `not tried: ${one.reason ?? 'no reason given'}`) : []
  })
}

function paint(word: string, code: number, color: boolean): string {
  return color ? `\u001b[${code}m${word}\u001b[0m` : word
}
