// The demo's course: build, start, show, wait, remove. deploy/demo.sh has checked that we are root and that everything is installed.
import { createInterface } from 'node:readline'
import { byWall, type WallResult } from '../../src/cli/attempts.ts'
import { givenTo } from './given.ts'
import { startHost, type Host, type Status } from './host.ts'
import { patient } from './patience.ts'
import { claimMachine, makePlace, removePlace, SAMPLES, type Place } from './place.ts'
import { readReport } from './report.ts'
import { heading, line, progress, subheading, table, wrapped } from './show.ts'
import { openSession } from './visit.ts'

/** clock speaks generation 1 and is started twice (protocol section 6); the rest is slack for a slow machine. */
const START_TIMEOUT_MS = patient(90_000)
/** Attempts that got through, one line or two each. */
const SHOWN_MAX = 20
const once = process.argv.includes('--once')

const stop = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort(new Error(`stopped by ${signal}`)))
// A closed terminal must not keep the demo from removing what it made.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => stop.abort(new Error('the output was closed')))

process.exitCode = await demo()

interface Made {
  place: Place | null
  host: Host | null
}

async function demo(): Promise<number> {
  const made: Made = { place: null, host: null }
  let good = false
  try {
    good = await course(made)
  } catch (error) {
    if (!stop.signal.aborted) {
      line(`error: ${error instanceof Error ? error.message : String(error)}`)
      if (made.host !== null) wrapped(made.host.lastWords())
    }
  } finally {
    good = await takeDown(made) && good
  }
  if (once && stop.signal.aborted) return 130
  return good ? 0 : 1
}

async function course(made: Made): Promise<boolean> {
  await claimMachine()
  made.place = await progress('building the sample plugins', makePlace())
  stop.signal.throwIfAborted()
  made.host = startHost(made.place)
  const deadline = AbortSignal.any([stop.signal, AbortSignal.timeout(START_TIMEOUT_MS)])
  await progress('starting Cordon and the four plugins', made.host.running(SAMPLES, deadline))
  const good = await show(made.host)
  if (!once) await waitForTheUser(made.host)
  return good
}

/** @returns whether every wall held and every friendly page was served */
async function show(host: Host): Promise<boolean> {
  heading('What each plugin was given')
  for (const name of SAMPLES) {
    subheading(name)
    table(givenTo(await host.policy(name)))
    if (once) table([['page', await host.link(name)]])
  }
  line('All of it, in sentences: cordon policy explain NAME')

  const attempts = await progress('the hostile one is trying', openSession(await host.link('hostile')).then(readReport))
  heading('What the hostile one tried')
  const walls = byWall(attempts)
  const broken = attempts.filter(({ verdict }) => verdict === 'BROKEN')
  table(walls.map((wall) => [wall.held ? { good: 'held' } : { bad: 'OPEN' }, wall.name, refusals(wall)]))
  table(broken.slice(0, SHOWN_MAX).map(({ wall, tried, result, expected }) => (
    [{ bad: 'OPEN' }, wall, `${tried}: ${result}, expected ${expected.join(' or ')}`]
  )))
  if (broken.length > SHOWN_MAX) line(`  and ${broken.length - SHOWN_MAX} more`)
  const untried = attempts.filter(({ verdict }) => verdict === 'not-applicable')
  table(untried.map(({ wall, tried, reason }) => ['not tried', wall, `${tried}: ${reason ?? 'no reason given'}`]))
  wrapped(verdictOf(attempts.length - untried.length, walls.filter(({ held }) => !held)))

  heading('What the others serve')
  const friendly = SAMPLES.filter((name) => name !== 'hostile')
  const pages = await Promise.all(friendly.map(async (name) => ({ name, saw: await servedPage(host, name) })))
  const states = await host.status()
  table(pages.map(({ name, saw }) => [saw === null ? { good: 'ok' } : { bad: 'FAIL' }, name, saw ?? stateOf(states, name)]))
  return walls.every(({ held }) => held) && pages.every(({ saw }) => saw === null)
}

function refusals({ made, example }: WallResult): string {
  return `${made} attempt${made === 1 ? '' : 's'}${example === null ? '' : `, such as: ${example.tried} (${example.result})`}`
}

function verdictOf(made: number, open: readonly WallResult[]): string {
  return open.length === 0 ? `${made} attempts. Every wall held.` : `These walls did not hold: ${open.map(({ name }) => name).join(', ')}.`
}

/** @returns null when the page came, else what came instead */
async function servedPage(host: Host, name: string): Promise<string | null> {
  try {
    const session = await openSession(await host.link(name))
    const page = await session.get(`/api/x/${name}/ui/`)
    return page.status === 200 && page.type.startsWith('text/html') ? null : `HTTP ${page.status}, ${page.type}`
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}

function stateOf(states: readonly Status[], name: string): string {
  const found = states.find((status) => status.name === name)
  return found === undefined ? 'unknown to the host' : `${found.state}, version ${found.version ?? '?'}, generation ${found.generation ?? '?'}`
}

async function waitForTheUser(host: Host): Promise<void> {
  const links = async () => {
    heading('Open in a browser on this machine')
    table(await Promise.all(SAMPLES.map(async (name) => [name, await host.link(name)])))
    line('Each link works once, within five minutes. From elsewhere, first:')
    line(`ssh -L ${host.port}:127.0.0.1:${host.port} this-machine`)
  }
  await links()
  line(process.stdin.isTTY ? 'Enter: fresh links. Ctrl-C: stop and remove everything.' : 'Ctrl-C: stop and remove everything.')
  const keys = process.stdin.isTTY ? createInterface({ input: process.stdin }) : null
  keys?.on('line', () => void links().catch((error: unknown) => line(`error: ${String(error)}`)))
  await new Promise<void>((done) => {
    if (stop.signal.aborted) done()
    stop.signal.addEventListener('abort', () => done())
    void host.ended.then(() => {
      if (!stop.signal.aborted) line('error: Cordon ended by itself')
      done()
    })
  })
  keys?.close()
}

/** Whatever happened before: the host ends, its log is checked, and nothing of the demo stays. */
async function takeDown({ place, host }: Made): Promise<boolean> {
  if (place === null) return true
  let good = true
  try {
    if (host !== null) {
      await progress('stopping', host.stop())
      heading('The audit log')
      const { text, intact } = await host.verifyLog()
      wrapped(text)
      good = intact
    }
  } catch (error) {
    line(`error: ${error instanceof Error ? error.message : String(error)}`)
    good = false
  }
  for (const left of await removePlace(place)) {
    line(`error: could not remove ${left}`)
    good = false
  }
  return good
}
