import { createHash, createPrivateKey, createPublicKey, sign, type KeyObject } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'

/*
 * A log made from FORMAT.md alone, with neither the writer's nor the verifiers' code: what it gets right or wrong, it gets
 * by itself. Everything is in the open (keys, lines), so that an attack can do what root could.
 */

export const sha256 = (...parts: (Uint8Array | string)[]): Buffer => parts.reduce<ReturnType<typeof createHash>>((hash, part) => hash.update(part), createHash('sha256')).digest()
export const leaf = (line: string): Buffer => sha256(Buffer.of(0), line)

/** RFC 6962 section 2.1, as it is written there. */
export function treeHash(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256('')
  if (leaves.length === 1) return leaves[0] ?? Buffer.alloc(0)
  let k = 1
  while (k * 2 < leaves.length) k *= 2
  return sha256(Buffer.of(1), treeHash(leaves.slice(0, k)), treeHash(leaves.slice(k)))
}

export interface KeyPair {
  readonly secret: KeyObject
  readonly raw: Buffer
}

/** The same for the same name, so that runs can be repeated. */
export function keyOf(name: string): KeyPair {
  const secret = createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), sha256(name)]), format: 'der', type: 'pkcs8' })
  return { secret, raw: createPublicKey(secret).export({ format: 'der', type: 'spki' }).subarray(-32) }
}

export function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  return `{${Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, item]) => `${JSON.stringify(key)}:${canonical(item)}`).join(',')}}`
}

export interface Stamp {
  readonly wallMs?: number
  readonly monoMs?: number
  readonly boot?: string
}

export const START_MS = Date.parse('2026-11-20T10:00:00.000Z')
export const BOOT_A = '11111111-1111-4111-8111-111111111111'
export const BOOT_B = '22222222-2222-4222-8222-222222222222'

export class Forge {
  readonly name: string
  readonly log: KeyPair
  readonly intervalS: number
  /** All records ever, removed ones too. */
  lines: string[] = []
  /** `seq` of the first record of each segment that is still there; the last is the open one. */
  segments = [0]
  epoch = 0
  prevSeal = '0'.repeat(64)
  wallMs = START_MS
  monoMs = 1_000_000
  boot = BOOT_A
  /** What is kept of removed segments. */
  kept: string[] = []
  /** Tree size for which tiles and checkpoint are written. */
  checkpointSize = 0

  constructor(name = 'log', intervalS = 60) {
    this.name = name
    this.log = keyOf(`${name}/log`)
    this.intervalS = intervalS
    const first = this.epochKey(0).raw
    this.record('log.created', { first_key: first.toString('hex'), interval_s: intervalS, log_key: this.log.raw.toString('hex'), origin: this.origin })
  }

  get origin(): string {
    return `cordon-audit/${sha256(this.epochKey(0).raw).toString('hex').slice(0, 16)}`
  }

  get fingerprint(): string {
    return `SHA256:${sha256(this.epochKey(0).raw).toString('base64').replace(/=+$/, '')}`
  }

  /** Where the log stands now: for a verifier that runs a moment later. */
  get now(): { wallMs: number; boot: string; monoMs: number } {
    return { wallMs: this.wallMs + 1000, boot: this.boot, monoMs: this.monoMs + 1000 }
  }

  epochKey(epoch: number): KeyPair {
    return keyOf(`${this.name}/epoch/${epoch}`)
  }

  pass(seconds: number): this {
    this.wallMs += seconds * 1000
    this.monoMs += seconds * 1000
    return this
  }

  reboot(seconds = 30): this {
    this.wallMs += seconds * 1000
    this.monoMs = 5000
    this.boot = this.boot === BOOT_A ? BOOT_B : BOOT_A
    return this
  }

  text(seq: number, prev: string, type: string, data: unknown, over: Readonly<Record<string, unknown>> = {}): string {
    return canonical({
      boot: this.boot, class_uid: 1008, data, mono_ms: this.monoMs, origin: 'launcher', plugin: null, policy: null, prev, run: null, seq,
      time: new Date(this.wallMs).toISOString(), type, v: 1, ...over,
    })
  }

  prev(): string {
    const last = this.lines.at(-1)
    return last === undefined ? '0'.repeat(64) : leaf(last).toString('hex')
  }

  record(type = 'admin.act', data: unknown = { n: this.lines.length }, over: Readonly<Record<string, unknown>> = {}): this {
    this.lines.push(this.text(this.lines.length, this.prev(), type, data, over))
    return this
  }

  records(count: number): this {
    for (let i = 0; i < count; i++) this.record()
    return this
  }

  /** @param signer whose key signs; the right one unless an attack says otherwise */
  seal(why = 'interval', signer = this.epochKey(this.epoch), over: Readonly<Record<string, unknown>> = {}): this {
    const seq = this.lines.length
    const data = {
      epoch: this.epoch, interval_s: this.intervalS, next_key: this.epochKey(this.epoch + 1).raw.toString('hex'), prev_seal: this.prevSeal,
      root: treeHash(this.lines.map(leaf)).toString('hex'), size: seq, why, ...over,
    }
    const sig = sign(null, Buffer.from(`cordon-seal/v1\n${this.text(seq, this.prev(), 'seal', data)}`), signer.secret).toString('hex')
    this.record('seal', { ...data, sig })
    this.prevSeal = this.prev()
    this.epoch += 1
    this.checkpointSize = this.lines.length
    return this
  }

  /** A new segment begins with the next record. */
  rotate(): this {
    this.seal('rotate')
    this.segments.push(this.lines.length)
    return this
  }

  /** Remove the oldest segment as retention does. */
  prune(): this {
    const [first = 0, next = 0] = this.segments
    const gone = this.lines.slice(first, next)
    const bytes = gone.map((line) => `${line}\n`).join('')
    this.record('log.pruned', { bytes: Buffer.byteLength(bytes), first, last_leaf: leaf(gone.at(-1) ?? '').toString('hex'), next, sha256: sha256(bytes).toString('hex') })
    this.seal('ask')
    this.kept.push(...gone.filter((line) => /"type":"(?:log\.created|seal|log\.pruned)","v":1\}$/.test(line)))
    this.segments.shift()
    return this
  }

  note(body: string, name: string, type: number, key: KeyPair, message: Uint8Array | string = body, prefix: Uint8Array = Buffer.alloc(0)): string {
    const id = sha256(`${name}\n`, Buffer.of(type), key.raw).subarray(0, 4)
    return `— ${name} ${Buffer.concat([id, prefix, sign(null, Buffer.from(message), key.secret)]).toString('base64')}\n`
  }

  body(size: number): string {
    return `${this.origin}\n${size}\n${treeHash(this.lines.slice(0, size).map(leaf)).toString('base64')}\n`
  }

  /** @param epoch whose key signs beside the log key: that of the epoch after the seal */
  checkpoint(size = this.checkpointSize, epoch = this.lines.slice(0, size).filter((line) => line.includes('"type":"seal"')).length): string {
    const body = this.body(size)
    return `${body}\n${this.note(body, this.origin, 1, this.log)}${this.note(body, `${this.origin}/epoch`, 1, this.epochKey(epoch))}`
  }

  cosigned(witness: string, key: KeyPair, size = this.checkpointSize, seconds = Math.floor(this.wallMs / 1000)): string {
    const time = Buffer.alloc(8)
    time.writeBigUInt64BE(BigInt(seconds))
    return this.checkpoint(size) + this.note('', witness, 4, key, `cosignature/v1\ntime ${seconds}\n${this.body(size)}`, time)
  }

  /** Everything as on disk: path below the log's directory to bytes. */
  files(): Map<string, Buffer> {
    const files = new Map<string, Buffer>()
    for (const [index, first] of this.segments.entries()) {
      const lines = this.lines.slice(first, this.segments[index + 1] ?? this.lines.length)
      files.set(`records/${String(first).padStart(16, '0')}.jsonl`, Buffer.from(lines.map((line) => `${line}\n`).join('')))
    }
    if (this.kept.length > 0) files.set('seals.jsonl', Buffer.from(this.kept.map((line) => `${line}\n`).join('')))
    if (this.checkpointSize === 0) return files
    files.set('checkpoint', Buffer.from(this.checkpoint()))
    const leaves = this.lines.slice(0, this.checkpointSize).map(leaf)
    for (let level = 0, hashes = leaves; hashes.length > 0; level++) {
      const above: Buffer[] = []
      for (let n = 0; n * 256 < hashes.length; n++) {
        const tile = hashes.slice(n * 256, n * 256 + 256)
        const path = `tile/${level}/${n >= 1000 ? `x${String(Math.floor(n / 1000)).padStart(3, '0')}/` : ''}${String(n % 1000).padStart(3, '0')}`
        files.set(tile.length === 256 ? path : `${path}.p/${tile.length}`, Buffer.concat(tile))
        if (tile.length === 256) above.push(treeHash(tile))
      }
      hashes = above
    }
    return files
  }

  write(dir: string): string {
    writeFiles(dir, this.files())
    return dir
  }
}

export function writeFiles(dir: string, files: ReadonlyMap<string, Buffer>): void {
  rmSync(dir, { recursive: true, force: true })
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  for (const [path, bytes] of files) {
    mkdirSync(dirname(join(dir, path)), { recursive: true })
    writeFileSync(join(dir, path), bytes, { mode: 0o600 })
  }
}
