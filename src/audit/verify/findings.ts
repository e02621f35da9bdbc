import { MAX_LISTED, type Finding } from './verdict.ts'

/** The first thing that is wrong. Behind it only missing ranges are looked for. */
export class Findings {
  first: Finding | null = null
  /** Records that can be believed although there is a finding. */
  believed = 0
  /** The seq after the last record that was met. */
  expected = 0
  readonly missing: { from: number; to: number }[] = []

  get any(): boolean {
    return this.first !== null
  }

  bad(finding: Finding, believed = finding.seq): void {
    if (this.first !== null) return
    this.first = finding
    this.believed = believed
  }

  /** A record, or a file that begins with one, claims this seq. */
  reach(seq: number): void {
    if (seq <= this.expected) return
    this.miss(this.expected, seq - 1)
    this.expected = seq
  }

  miss(from: number, to: number): void {
    if (this.missing.length < MAX_LISTED) this.missing.push({ from, to })
  }
}
