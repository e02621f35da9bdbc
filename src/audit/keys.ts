import { createPrivateKey, createPublicKey, randomBytes, sign, type KeyObject } from 'node:crypto'
import { CordonError } from '../errors.ts'
import type { PrivateDir } from './private-dir.ts'

/** RFC 8410: what stands before the 32 bytes of an Ed25519 seed in PKCS #8, and before those of a public key in SPKI. */
const PKCS8 = Buffer.from('302e020100300506032b657004220420', 'hex')
const SPKI_PREFIX_BYTES = 12
const SEED_BYTES = 32
const LOG_KEY = 'log.key'
const SALT = 'salt'
const EPOCH = /^epoch-(\d{1,15})\.key(?:\.new)?$/

export class SigningKey {
  readonly #seed: Buffer
  readonly #key: KeyObject
  /** Hex of the 32 bytes. */
  readonly public: string

  constructor(seed: Buffer) {
    this.#seed = seed
    this.#key = createPrivateKey({ key: Buffer.concat([PKCS8, seed]), format: 'der', type: 'pkcs8' })
    this.public = createPublicKey(this.#key).export({ format: 'der', type: 'spki' }).toString('hex', SPKI_PREFIX_BYTES)
  }

  get seed(): Uint8Array {
    return this.#seed
  }

  sign(bytes: Uint8Array): Buffer {
    return sign(null, bytes, this.#key)
  }

  /** As far as a language with a garbage collector can: OpenSSL clears its own copy when the object goes. */
  forget(): void {
    this.#seed.fill(0)
  }
}

export function epochFile(epoch: number): string {
  return `epoch-${epoch}.key`
}

/** The secrets of the log, in `<stateDir>/audit-keys`. */
export class KeyStore {
  readonly #dir: PrivateDir

  constructor(dir: PrivateDir) {
    this.#dir = dir
  }

  /** @returns null where there is none */
  epochKey(epoch: number): Promise<SigningKey | null> {
    return this.#key(epochFile(epoch))
  }

  /** Durable when it resolves. */
  async makeEpochKey(epoch: number): Promise<SigningKey> {
    const key = new SigningKey(randomBytes(SEED_BYTES))
    await this.keepEpochKey(epoch, key)
    return key
  }

  keepEpochKey(epoch: number, key: SigningKey): Promise<void> {
    return this.#dir.replace(epochFile(epoch), key.seed)
  }

  async destroyEpochKey(epoch: number): Promise<void> {
    await this.#dir.shred(epochFile(epoch), SEED_BYTES)
  }

  /** Of every epoch but this one: what a crash left. */
  async destroyOthers(epoch: number): Promise<void> {
    for (const name of await this.#dir.list()) {
      if (EPOCH.test(name) && name !== epochFile(epoch)) await this.#dir.shred(name, SEED_BYTES)
    }
  }

  /** The highest epoch that a key lies there for. */
  async newestEpoch(): Promise<number | null> {
    const epochs = (await this.#dir.list()).flatMap((name) => (name.endsWith('.key') ? EPOCH.exec(name)?.[1] ?? [] : [])).map(Number)
    return epochs.length === 0 ? null : Math.max(...epochs)
  }

  /** Made where there is none: nothing else depends on which one signs, except who knows its name. */
  async logKey(): Promise<SigningKey> {
    const found = await this.#key(LOG_KEY)
    if (found !== null) return found
    const key = new SigningKey(randomBytes(SEED_BYTES))
    await this.#dir.replace(LOG_KEY, key.seed)
    return key
  }

  /** Values that may be secret are recorded as an HMAC with it, so that nobody who reads the log can guess at them. */
  async salt(): Promise<Buffer> {
    const found = await this.#dir.read(SALT, SEED_BYTES)
    if (found !== null) return whole(found, SALT)
    const salt = randomBytes(SEED_BYTES)
    await this.#dir.replace(SALT, salt)
    return salt
  }

  async #key(name: string): Promise<SigningKey | null> {
    const seed = await this.#dir.read(name, SEED_BYTES)
    return seed === null ? null : new SigningKey(whole(seed, name))
  }
}

function whole(bytes: Buffer, name: string): Buffer {
  if (bytes.length !== SEED_BYTES) throw new CordonError('AUDIT_KEYS', `${name} has ${bytes.length} bytes, expected ${SEED_BYTES}`)
  return Buffer.from(bytes)
}
