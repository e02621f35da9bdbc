import type { Claim, Evidence } from './evidence.ts'
import type { Findings } from './findings.ts'
import { signedBy } from './note.ts'
import type { Seal } from './own-records.ts'
import { toHex, type Tree } from './tree.ts'

/** Checkpoints, each compared when the walk has come to exactly as many records as it was made for. */
export class Claims {
  /** Records that the next one is for; Infinity: there is none. */
  nextSize = Number.POSITIVE_INFINITY
  /** Saved ones that the log agrees with, and the largest of them. */
  savedConfirmed = 0
  savedSize: number | null = null
  readonly #evidence: Evidence
  readonly #findings: Findings
  #next = 0

  constructor(evidence: Evidence, findings: Findings) {
    this.#evidence = evidence
    this.#findings = findings
    this.#nextSizeIs()
  }

  /** The first that the log has not come to. */
  get unmet(): Claim | null {
    return this.#evidence.claims[this.#next] ?? null
  }

  compare(tree: Tree, seal: Seal | null): void {
    const { disk, genesis } = this.#evidence
    for (let claim = this.unmet; claim !== null && claim.size === tree.size; claim = this.unmet) {
      this.#next += 1
      this.#nextSizeIs()
      if (toHex(tree.root()) !== claim.root) return this.#bad(claim, `it was made for the first ${claim.size} records, and they are not the same any more: its root is not theirs`)
      if (claim.saved) {
        this.savedConfirmed += 1
        this.savedSize = claim.size
      } else if (claim.source === 'checkpoint' && disk !== null && genesis !== null) {
        if (seal === null || seal.seq + 1 !== claim.size) return this.#bad(claim, `it is for ${claim.size} records, and the last of them is no seal`)
        if (!signedBy(disk, `${genesis.origin}/epoch`, Buffer.from(seal.nextKey, 'hex'))) return this.#bad(claim, 'it is not signed by the key of the epoch that its seal announces')
      }
    }
  }

  #nextSizeIs(): void {
    this.nextSize = this.unmet?.size ?? Number.POSITIVE_INFINITY
  }

  #bad(claim: Claim, problem: string): void {
    const file = claim.saved ? 'records' : claim.source
    this.#findings.bad({ seq: Math.max(0, claim.size - 1), file, line: 0, offset: 0, problem: claim.saved ? `a checkpoint in ${claim.source}: ${problem}` : problem }, 0)
  }
}
