import { printable } from '../../base/printable.ts'
import { genesisOf, prunedOf, sealOf, type Genesis, type PrunedData } from './genesis.ts'
import { sealSigned } from './proof.ts'
import type { RecordScanner } from './scan.ts'
import { toHex, type Hash, type Tree } from './tree.ts'
import { MAX_LISTED, type Gap } from './verdict.ts'

const MAX_PRUNED = 1_000_000
const ZEROS = '0'.repeat(64)

/** As the record itself says it. */
export interface Moment {
  readonly boot: string
  readonly monoMs: number
  readonly timeMs: number
}

export interface Seal extends Moment {
  readonly seq: number
  readonly epoch: number
  readonly why: string
  /** After which the next one is overdue. */
  readonly limitMs: number
  /** Hex: its own leaf hash, and the key of the next epoch. */
  readonly leaf: string
  readonly nextKey: string
}

type OwnType = 'seal' | 'log.created' | 'log.pruned' | 'gap'

/** @param scanner has just accepted a record in `buffer` @returns null: it is not the log's own. Told by its first byte and length first: most are not */
export function ownType(buffer: Buffer, { typeStart, typeEnd }: RecordScanner): OwnType | null {
  const length = typeEnd - typeStart
  const first = buffer[typeStart]
  if (!((first === 0x73 && length === 4) || (first === 0x67 && length === 3) || (first === 0x6c && (length === 11 || length === 10)))) return null
  const type = buffer.toString('latin1', typeStart, typeEnd)
  return type === 'seal' || type === 'gap' || type === 'log.created' || type === 'log.pruned' ? type : null
}

/** The records that the log itself is made of: its beginning, its seals with their keys, what was pruned, what is said to be missing. */
export class OwnRecords {
  seal: Seal | null = null
  /** The first seal is overdue after it; the others say it themselves. */
  genesisLimitMs = 0
  readonly prunes: (PrunedData & { readonly seq: number })[] = []
  readonly gaps: Gap[] = []
  gapCount = 0
  readonly pauses: { seq: number; seconds: number }[] = []
  readonly #genesis: Genesis | null
  readonly #notes: string[]
  /** Hex: the one that the next seal must be signed with. */
  #key = ''
  #epochs = 0

  /** @param genesis what pin and checkpoints were compared with @param notes added to */
  constructor(genesis: Genesis | null, notes: string[]) {
    this.#genesis = genesis
    this.#notes = notes
  }

  /** @param type `other` for a record that is not the log's own @param tree of the records before it @returns what is wrong with it */
  take(type: OwnType | 'other', line: Buffer, seq: number, moment: Moment, leaf: Hash, tree: Tree): string | null {
    if ((seq === 0) !== (type === 'log.created')) return seq === 0 ? 'the first record of a log must be log.created' : 'log.created stands only at the beginning of a log'
    if (type === 'other') return null
    const { time, data } = JSON.parse(line.toString('utf8')) as { readonly time: string; readonly data: Readonly<Record<string, unknown>> }
    switch (type) {
      case 'log.created': {
        const genesis = genesisOf(data)
        if (genesis === null) return 'its data is not that of log.created: keys, origin or interval are not as they should be'
        if (genesis.fingerprint !== this.#genesis?.fingerprint || !genesis.logKey.equals(this.#genesis.logKey)) return 'it is not the log.created that the checkpoints were compared with'
        this.#key = genesis.firstKey.toString('hex')
        this.genesisLimitMs = limitMs(genesis.intervalS)
        return null
      }
      case 'gap':
        this.gapCount += 1
        if (this.gaps.length < MAX_LISTED) this.gaps.push({ seq, time, reason: typeof data['reason'] === 'string' ? printable(data['reason'], 64) : '(none)', data })
        return null
      case 'log.pruned': {
        const pruned = prunedOf(data)
        if (pruned === null || pruned.next > seq) return 'its data is not that of log.pruned'
        if (this.prunes.length >= MAX_PRUNED) return `more than ${MAX_PRUNED} log.pruned records`
        this.prunes.push({ ...pruned, seq })
        return null
      }
      case 'seal': return this.#takeSeal(line, data, seq, moment, leaf, tree)
      default: return type satisfies never
    }
  }

  #takeSeal(line: Buffer, data: Readonly<Record<string, unknown>>, seq: number, moment: Moment, leaf: Hash, tree: Tree): string | null {
    const seal = sealOf(data)
    const before = this.seal
    if (seal === null) return 'its data is not that of a seal'
    const since = `records ${before === null ? 0 : before.seq + 1} to ${seq} cannot be believed`
    if (seal.epoch !== this.#epochs) return `it is the seal of epoch ${seal.epoch}, expected ${this.#epochs}: seals are missing, or it was made up; ${since}`
    if (seal.size !== seq) return `it seals ${seal.size} records and stands behind ${seq}; ${since}`
    if (seal.prevSeal !== (before?.leaf ?? ZEROS)) return `it does not follow the seal before it; ${since}`
    if (!sealSigned(line, seal.sig, Buffer.from(this.#key, 'hex'))) return `the seal of epoch ${seal.epoch} is not signed by the key that was announced for it; ${since}`
    if (seal.root !== toHex(tree.root())) return `its root is not that of the records before it; ${since}`
    if (before !== null && before.boot === moment.boot && before.why !== 'close' && moment.monoMs - before.monoMs > before.limitMs && this.pauses.length < MAX_LISTED) {
      this.pauses.push({ seq: before.seq, seconds: Math.round((moment.monoMs - before.monoMs) / 1000) })
    }
    if (before !== null && before.boot !== moment.boot && before.why !== 'close' && this.#notes.length < MAX_LISTED) {
      this.#notes.push(`the boot before record ${seq} ended without a closing seal (power loss, or a crash); its last seal is record ${before.seq}`)
    }
    this.seal = { seq, epoch: seal.epoch, why: seal.why, limitMs: limitMs(seal.intervalS), leaf: toHex(leaf), nextKey: seal.nextKey, ...moment }
    this.#key = seal.nextKey
    this.#epochs += 1
    return null
  }
}

function limitMs(intervalS: number): number {
  return 2 * intervalS * 1000 + 10_000
}
