export interface Difference {
  readonly what: string
  readonly expected: string
  readonly found: string
}

export type Expect = (what: string, expected: string, found: string) => void

/** What the plan says beside what the kernel says: everything that was looked at, and every difference. */
export interface Comparison {
  readonly found: Record<string, string>
  readonly differences: Difference[]
  readonly expect: Expect
}

export function comparison(): Comparison {
  const found: Record<string, string> = {}
  const differences: Difference[] = []
  return {
    found,
    differences,
    expect: (what, expected, actual) => {
      found[what] = actual
      if (expected !== actual) differences.push({ what, expected, found: actual })
    },
  }
}
