import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { SeccompProfile, SeccompRule } from '../../src/plan/plan.ts'
import { compileSeccomp } from '../../src/plan/seccomp.ts'
import { ALLOWED, REFUSED, UNKNOWN } from '../../src/plan/seccomp-calls.ts'
import { othersThan } from '../../src/plan/seccomp-values.ts'

const ARCHITECTURES = ['x86_64', 'aarch64'] as const
const KINDS = ['plugin', 'gateway'] as const
const all = ARCHITECTURES.flatMap((architecture) => KINDS.map((kind) => [architecture, kind] as const))

const EPERM = 1
const ENOSYS = 38
const EPROTONOSUPPORT = 93
const ESOCKTNOSUPPORT = 94
const EAFNOSUPPORT = 97

/** What the list says about one call: every rule whose conditions all hold. 0 is "allowed". */
function answers(profile: SeccompProfile, name: string, ...args: readonly bigint[]): number[] {
  const matching = profile.syscalls.filter((rule) => rule.names.includes(name) && (rule.args ?? []).every((condition) => holds(condition, args)))
  const found = matching.map((rule) => (rule.action === 'SCMP_ACT_ALLOW' ? 0 : (rule.errnoRet ?? EPERM)))
  return [...new Set(found.length === 0 ? [profile.defaultErrnoRet] : found)]
}

function holds(condition: NonNullable<SeccompRule['args']>[number], args: readonly bigint[]): boolean {
  const given = BigInt.asUintN(64, args[condition.index] ?? 0n)
  switch (condition.op) {
    case 'SCMP_CMP_MASKED_EQ': return (given & BigInt(condition.value)) === BigInt(condition.valueTwo ?? 0)
    case 'SCMP_CMP_EQ': return given === BigInt(condition.value)
    case 'SCMP_CMP_NE': return given !== BigInt(condition.value)
    default: return condition.op satisfies never
  }
}

/** JSON for a reader of diffs: a line per call, and a line per rule with conditions. */
function text(profile: SeccompProfile): string {
  const { syscalls, ...head } = profile
  const rules = syscalls.map((rule) => (rule.args === undefined ? JSON.stringify(rule, null, 1) : JSON.stringify(rule)))
  return `${JSON.stringify(head).slice(0, -1)},"syscalls":[\n${rules.join(',\n')}\n]}\n`
}

describe.each(ARCHITECTURES)('the filter on %s', (architecture) => {
  test('changes only where somebody reads the difference', async () => {
    const profile = compileSeccomp(architecture, 'runc', 'plugin')
    await expect(text(profile)).toMatchFileSnapshot(`golden/seccomp-${architecture}.json`)
  })

  test('knows one ABI, answers ENOSYS by default and logs where the runtime can', () => {
    const crun = compileSeccomp(architecture, 'crun', 'plugin')
    const runc = compileSeccomp(architecture, 'runc', 'plugin')
    expect(crun.architectures).toEqual([architecture === 'x86_64' ? 'SCMP_ARCH_X86_64' : 'SCMP_ARCH_AARCH64'])
    expect([crun.defaultAction, crun.defaultErrnoRet]).toEqual(['SCMP_ACT_ERRNO', ENOSYS])
    expect([crun.flags, runc.flags]).toEqual([['SECCOMP_FILTER_FLAG_LOG'], []])
    expect({ ...crun, flags: [] }).toEqual(runc)
  })
})

describe.each(all)('the filter on %s for a %s', (architecture, kind) => {
  const profile = compileSeccomp(architecture, 'runc', kind)
  const rulesOf = (name: string): readonly SeccompRule[] => profile.syscalls.filter((rule) => rule.names.includes(name))
  const names = [...new Set(profile.syscalls.flatMap((rule) => rule.names))]

  test('names a call once without conditions, or only with conditions', () => {
    for (const name of names) {
      const rules = rulesOf(name)
      if (rules.some((rule) => rule.args === undefined)) expect(rules, name).toHaveLength(1)
    }
  })

  test('says nothing twice', () => {
    const said = profile.syscalls.flatMap((rule) => rule.names.map((name) => JSON.stringify([name, rule.args ?? null])))
    expect(new Set(said).size).toBe(said.length)
  })

  test('has no condition twice on one argument of an entry, which runtimes read in two ways', () => {
    for (const rule of profile.syscalls) {
      const indexes = (rule.args ?? []).map((condition) => condition.index)
      expect(new Set(indexes).size, JSON.stringify(rule)).toBe(indexes.length)
    }
  })

  test('compares at most 32 bits of whatever the kernel takes as an int', () => {
    for (const rule of profile.syscalls) {
      for (const condition of rule.args ?? []) {
        const pointer = rule.names[0] === 'prlimit64' && condition.index === 2
        expect(condition.op === 'SCMP_CMP_MASKED_EQ' && condition.value <= 0xffff_ffff, JSON.stringify(rule)).toBe(!pointer)
      }
    }
  })

  test('gives one answer to every call with conditions, whatever the arguments', () => {
    const conditional = [...new Set(profile.syscalls.filter((rule) => rule.args !== undefined).flatMap((rule) => rule.names))]
    const interesting = [0n, 1n, 2n, 3n, 4n, 6n, 10n, 16n, 17n, 0x5412n, 0x401c_5820n, 0x4008_6602n, 0x1_0000n, 0x3d_0f00n, 0x1000_0000n, 0x7e02_0000n, 0xffff_ffffn, 1n << 32n, (1n << 32n) + 4n]
    const argument = fc.oneof(fc.constantFrom(...interesting), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }))
    fc.assert(
      fc.property(fc.constantFrom(...conditional), fc.array(argument, { minLength: 3, maxLength: 3 }), (name, args) => {
        expect(answers(profile, name, ...args)).toHaveLength(1)
      }),
      { seed: 20261120, numRuns: 5000 },
    )
  })

  test('refuses every dangerous call with EPERM and every one that must look absent with ENOSYS', () => {
    for (const name of REFUSED.flatMap((group) => group.calls)) {
      expect(answers(profile, name), name).toEqual([names.includes(name) ? EPERM : ENOSYS]) // iopl and ioperm exist on x86-64 only
    }
    for (const name of UNKNOWN.calls) expect(answers(profile, name), name).toEqual([ENOSYS])
    const allowed = new Set(ALLOWED.flatMap((group) => group.calls))
    expect([...REFUSED, UNKNOWN].flatMap((group) => group.calls).filter((name) => allowed.has(name))).toEqual([])
  })

  test('opens UNIX, IPv4 and IPv6 stream and datagram sockets and no others, also with bit 32 set', () => {
    const high = 1n << 32n
    for (const extra of [0n, high]) {
      expect(answers(profile, 'socket', 2n + extra, 1n + 0x80800n + extra, 6n + extra)).toEqual([0])
      expect(answers(profile, 'socket', 1n + extra, 2n + extra, 0n)).toEqual([0])
      expect(answers(profile, 'socket', 16n + extra, 3n, 0n)).toEqual([EAFNOSUPPORT])
      expect(answers(profile, 'socket', 40n + extra, 1n, 0n)).toEqual([EAFNOSUPPORT])
      expect(answers(profile, 'socket', 2n + extra, 3n + extra, 1n)).toEqual([ESOCKTNOSUPPORT])
      expect(answers(profile, 'socket', 10n + extra, 1n, 262n + extra)).toEqual([EPROTONOSUPPORT])
      expect(answers(profile, 'socketpair', 1n + extra, 5n, 0n)).toEqual([0])
      expect(answers(profile, 'socketpair', 2n + extra, 1n, 0n)).toEqual([EAFNOSUPPORT])
    }
  })

  test('lets RLIMIT_CORE be read but not set', () => {
    expect(answers(profile, 'setrlimit', 4n)).toEqual([EPERM])
    expect(answers(profile, 'setrlimit', (1n << 32n) + 4n)).toEqual([EPERM])
    expect(answers(profile, 'setrlimit', 7n)).toEqual([0])
    expect(answers(profile, 'prlimit64', 0n, 4n, 0n)).toEqual([0])
    expect(answers(profile, 'prlimit64', 0n, 4n, 0x7fff_0000_0000n)).toEqual([EPERM])
    expect(answers(profile, 'prlimit64', 0n, 7n, 0x7fff_0000_0000n)).toEqual([0])
  })
})

test('legacy calls of x86-64 are not on the arm64 list', () => {
  const names = new Set(compileSeccomp('aarch64', 'runc', 'plugin').syscalls.flatMap((rule) => rule.names))
  for (const name of ['open', 'fork', 'vfork', 'stat', 'poll', 'epoll_wait', 'arch_prctl', 'unlink', 'time']) expect(names.has(name), name).toBe(false)
  for (const name of ['openat', 'clone', 'newfstatat', 'ppoll', 'epoll_pwait', 'renameat', 'fchownat']) expect(names.has(name), name).toBe(true)
})

test('a plugin may make processes but no namespaces, the gateway threads and nothing else', () => {
  const fork = 0x11n // SIGCHLD
  const thread = 0x3d_0f00n // what glibc passes for a thread
  const plugin = compileSeccomp('x86_64', 'runc', 'plugin')
  const gateway = compileSeccomp('x86_64', 'runc', 'gateway')
  expect([fork, thread].map((flags) => answers(plugin, 'clone', flags))).toEqual([[0], [0]])
  expect([fork, thread].map((flags) => answers(gateway, 'clone', flags))).toEqual([[EPERM], [0]])
  expect(['fork', 'vfork'].map((name) => answers(gateway, name))).toEqual([[EPERM], [EPERM]])
  for (const flag of [0x2_0000n, 0x200_0000n, 0x400_0000n, 0x800_0000n, 0x1000_0000n, 0x2000_0000n, 0x4000_0000n]) {
    for (const high of [0n, 1n << 32n]) {
      expect(answers(plugin, 'clone', fork + flag + high)).toEqual([EPERM])
      expect(answers(gateway, 'clone', thread + flag + high)).toEqual([EPERM])
    }
  }
})

test('the blocks around a set of values match every other value once and the set never', () => {
  const value = fc.integer({ min: 0, max: 0xffff_ffff })
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 8 }), value, (set, probe) => {
      const hits = (candidate: number): number => othersThan(set).filter((block) => (BigInt(candidate) & BigInt(block.mask)) === BigInt(block.value)).length
      expect(hits(probe)).toBe(set.includes(probe) ? 0 : 1)
      for (const member of set) expect(hits(member)).toBe(0)
    }),
    { seed: 20261120, numRuns: 500 },
  )
})
