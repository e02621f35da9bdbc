import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { rm } from 'node:fs/promises'
import { mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Duplex } from 'node:stream'
import { build } from 'esbuild'
import type { PluginName, RunId } from '../../src/base/ids.ts'
import { FROM_DOOR, type DoorEvent, type FromDoor, type ToDoor } from '../../src/wire/door.ts'
import { encodeMessage, FrameReader, type Frame } from '../../src/wire/frame.ts'

const ROOT = resolve(import.meta.dirname, '../..')
type Order = Extract<ToDoor, { id: number }>
type Question = { [T in Exclude<Order['type'], 'answer'>]: Omit<Extract<Order, { type: T }>, 'id'> }[Exclude<Order['type'], 'answer'>]

/** Door and helper as they are shipped: one bundled file each. */
export async function buildDoor(): Promise<{ dir: string; door: string; helper: string }> {
  const dir = await mkdtemp(join(tmpdir(), 'cordon-door-'))
  await build({
    entryPoints: { door: join(ROOT, 'src/door.ts'), helper: join(ROOT, 'src/launcher/door-helper.ts') }, outdir: dir, outExtension: { '.js': '.cjs' },
    bundle: true, platform: 'node', format: 'cjs', target: 'node24', logLevel: 'error',
  })
  return { dir, door: join(dir, 'door.cjs'), helper: join(dir, 'helper.cjs') }
}

/** The launcher's end of the conversation, without root and walls: the helper runs in the same network namespace as the door. */
export class FakeLauncher {
  readonly door: ChildProcess
  readonly messages: FromDoor[] = []
  readonly #files: { dir: string; door: string; helper: string }
  readonly #requests: Duplex
  readonly #lent: Duplex
  #wake: (() => void)[] = []
  #id = 0
  stderr = ''
  /** Answer records with `ok`, as a launcher whose log works. */
  durable = true

  constructor(files: { dir: string; door: string; helper: string }) {
    this.#files = files
    this.door = spawn(process.execPath, [files.door], { stdio: ['ignore', 'inherit', 'pipe', 'pipe', 'pipe'], env: { NODE_CHANNEL_FD: '4', NODE_CHANNEL_SERIALIZATION_MODE: 'json' } })
    this.#requests = this.door.stdio[3] as Duplex
    this.#lent = this.door.stdio[4] as Duplex
    this.#lent.on('error', () => {})
    this.#lent.pause()
    ;(this.#lent as Duplex & { _handle: { readStop(): void } })._handle.readStop()
    const frames = new FrameReader()
    frames.on('data', (frame: Frame) => this.#receive(frame))
    frames.on('error', () => {})
    this.#requests.on('error', () => {})
    this.#requests.pipe(frames)
    this.door.stderr?.on('data', (bytes: Buffer) => { this.stderr += bytes.toString() })
    this.door.on('exit', () => this.#notify())
  }

  say(message: ToDoor): void {
    this.#requests.write(encodeMessage(message))
  }

  sayBytes(bytes: Buffer): void {
    this.#requests.write(bytes)
  }

  async ask(question: Question): Promise<{ ok?: unknown; error?: { code: string; message: string } | undefined }> {
    this.#id += 1
    const id = this.#id
    this.say({ ...question, id } as ToDoor)
    return this.#until((m): m is Extract<FromDoor, { type: 'answer' }> => m.type === 'answer' && m.id === id)
  }

  serving(run: RunId): Promise<Extract<FromDoor, { type: 'serving' }>> {
    return this.#until((m): m is Extract<FromDoor, { type: 'serving' }> => m.type === 'serving' && m.run === run)
  }

  event<T extends DoorEvent['type']>(type: T, fits: (event: Extract<DoorEvent, { type: T }>) => boolean = () => true): Promise<Extract<DoorEvent, { type: T }>> {
    return this.#until((m): m is Extract<FromDoor, { type: 'record' }> => m.type === 'record' && m.event.type === type && fits(m.event as Extract<DoorEvent, { type: T }>))
      .then((m) => m.event as Extract<DoorEvent, { type: T }>)
  }

  configure(more: Partial<Omit<Extract<ToDoor, { type: 'configure' }>, 'type' | 'id'>> = {}): Promise<unknown> {
    return this.ask({ type: 'configure', resolvers: [], hostAddresses: [], onLink: [], ownPorts: [], name: '0123456789ab', ...more })
  }

  open(run: RunId, rules: Extract<ToDoor, { type: 'openRun' }>['rules'], ports: readonly number[], maxConnections = 256): Promise<{ ok?: unknown; error?: { code: string } | undefined }> {
    return this.ask({
      type: 'openRun', run, plugin: 'indexnow' as PluginName, rules, ports: [...ports], ipv6: false, decoys: { names: [], secrets: [] },
      limits: { maxConnections, egressMaxPerDay: null, spent: { day: '2026-01-01', bytes: 0 } },
    })
  }

  /** @param dns needs root: port 53 */
  async lend(run: RunId, ports: readonly number[], dns = false): Promise<{ status: number; stderr: string }> {
    const helper = spawn(process.execPath, [this.#files.helper, run, '0', dns ? '1' : '0', ...ports.map(String)], {
      stdio: ['ignore', 'ignore', 'pipe', this.#lent], env: { NODE_CHANNEL_FD: '3', NODE_CHANNEL_SERIALIZATION_MODE: 'json' },
    })
    let stderr = ''
    helper.stderr?.on('data', (bytes: Buffer) => { stderr += bytes.toString() })
    const [status] = (await once(helper, 'close')) as [number]
    return { status, stderr }
  }

  async ended(): Promise<number | null> {
    while (this.door.exitCode === null && this.door.signalCode === null) await new Promise<void>((wake) => this.#wake.push(wake))
    return this.door.exitCode
  }

  async close(): Promise<void> {
    if (this.door.exitCode === null && this.door.signalCode === null) {
      this.door.kill('SIGKILL')
      await once(this.door, 'exit')
    }
    for (const stream of this.door.stdio) stream?.destroy()
  }

  async #until<M extends FromDoor>(fits: (message: FromDoor) => message is M): Promise<M> {
    for (;;) {
      const found = this.messages.find(fits)
      if (found !== undefined) return found
      if (this.door.exitCode !== null) throw new Error(`the door left with ${this.door.exitCode}: ${this.stderr}`)
      await new Promise<void>((wake) => this.#wake.push(wake))
    }
  }

  #receive(frame: Frame): void {
    if (frame.kind !== 'message') throw new Error('a data frame from the door')
    const message = FROM_DOOR.parse(frame.value)
    this.messages.push(message)
    if (message.type === 'record' && message.id !== null) {
      this.say(this.durable ? { type: 'answer', id: message.id, ok: {} } : { type: 'answer', id: message.id, error: { code: 'AUDIT_UNAVAILABLE', message: 'no log', hint: '' } })
    }
    this.#notify()
  }

  #notify(): void {
    for (const wake of this.#wake.splice(0)) wake()
  }
}

export const remove = (dir: string): Promise<void> => rm(dir, { recursive: true, force: true })
