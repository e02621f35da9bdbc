import type { SeccompProfile, SeccompRule } from './plan.ts'
import { ALLOWED, REFUSED, UNKNOWN, X86_ONLY } from './seccomp-calls.ts'
import { exactly, INT_MASK, othersThan, type MaskedValue } from './seccomp-values.ts'

type RuleArgument = NonNullable<SeccompRule['args']>[number]

// errno values; the same on x86-64 and arm64 (asm-generic/errno.h)
const EPERM = 1
const ENOSYS = 38
const EPROTONOSUPPORT = 93
const ESOCKTNOSUPPORT = 94
const EAFNOSUPPORT = 97

/**
 * The system call filter of one run: an allow-list, default ENOSYS (the one errno on which libc probes and falls back).
 *
 * How libseccomp reads a list, and what is kept here because of it: an entry without conditions overrules all entries of the
 * same call that have some, so no call has both; conditions of one entry must all hold; and once a condition matched its
 * siblings are not tried, so the conditions of one call on one argument never overlap with different outcomes.
 *
 * `gateway`: also no new process (threads only). What remains there, because the runtime itself needs it: execve, so it can become
 * another program that its mounts hold, under this same filter; and everything that its open sockets reach.
 *
 * Not covered: the arguments of setsockopt, prctl and fcntl. None of them reaches past the kernel's own checks of a process
 * without capabilities, but they are kernel surface.
 */
export function compileSeccomp(architecture: 'x86_64' | 'aarch64', runtime: 'crun' | 'runc', kind: 'plugin' | 'gateway'): SeccompProfile {
  const key = `${architecture} ${runtime} ${kind}`
  const profile = compiled.get(key) ?? Object.freeze(compile(architecture, runtime, kind))
  compiled.set(key, profile)
  return profile
}

/** There are eight of them and they never change; the same frozen object each time also lets its digest be taken once. */
const compiled = new Map<string, SeccompProfile>()

function compile(architecture: 'x86_64' | 'aarch64', runtime: 'crun' | 'runc', kind: 'plugin' | 'gateway'): SeccompProfile {
  const rules = [
    allow(ALLOWED.flatMap((group) => group.calls)),
    refuse(REFUSED.flatMap((group) => group.calls), EPERM),
    refuse(UNKNOWN.calls, ENOSYS),
    ...(kind === 'plugin' ? newProcesses() : onlyThreads()),
    ...sockets(),
    ...terminalsAndFileFlags(),
    ...limits(),
    // PER_LINUX and the query; the others switch off address randomisation or make readable pages executable.
    ...allowValues('personality', 0, [exactly(0), exactly(INT_MASK)]),
  ]
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: ENOSYS,
    // One ABI. With i386 or x32 beside it every rule would need a twin under other numbers and argument widths.
    architectures: [architecture === 'x86_64' ? 'SCMP_ARCH_X86_64' : 'SCMP_ARCH_AARCH64'],
    // Stated even when empty: newer runtimes take SECCOMP_FILTER_FLAG_SPEC_ALLOW (no SSBD) when nothing is said.
    flags: runtime === 'crun' ? ['SECCOMP_FILTER_FLAG_LOG'] : [],
    syscalls: rules.flatMap((rule) => forArchitecture(rule, architecture)),
  }
}

// include/uapi/linux/sched.h; CLONE_NEWTIME (0x80) lies in clone's signal byte and exists for clone3 and unshare only.
const CLONE_NEW = [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000]
const CLONE_NEW_ANY = CLONE_NEW.reduce((sum, flag) => sum + flag, 0)
const CLONE_THREAD = 0x0001_0000

function newProcesses(): SeccompRule[] {
  return [
    allow(['fork', 'vfork']),
    ...allowValues('clone', 0, [{ mask: CLONE_NEW_ANY, value: 0 }]),
    ...CLONE_NEW.map((flag) => refuse(['clone'], EPERM, [when(0, { mask: flag, value: flag })])),
  ]
}

function onlyThreads(): SeccompRule[] {
  return [
    refuse(['fork', 'vfork'], EPERM),
    ...allowValues('clone', 0, [{ mask: CLONE_NEW_ANY + CLONE_THREAD, value: CLONE_THREAD }]),
    refuse(['clone'], EPERM, [when(0, { mask: CLONE_THREAD, value: 0 })]),
    ...CLONE_NEW.map((flag) => refuse(['clone'], EPERM, [when(0, { mask: flag, value: flag })])),
  ]
}

const AF_UNIX = 1
const AF_INET = 2
const AF_INET6 = 10
/** The kernel's own mask (include/linux/net.h): above it are SOCK_NONBLOCK and SOCK_CLOEXEC. */
const SOCK_TYPE_MASK = 0xf
const SOCK_STREAM = 1
const SOCK_DGRAM = 2
const SOCK_TYPES_REFUSED = [3, 4, 5, 6, 10] // RAW, RDM, SEQPACKET, DCCP, PACKET; other numbers do not exist
/** 0, TCP and UDP. */
const PROTOCOLS = [0, 6, 17]
/** Named so that libraries read "not supported" and take TCP or UDP: ICMP, ICMPv6, L2TP, SCTP, UDP-Lite, SMC, MPTCP. Others: ENOSYS. */
const PROTOCOLS_REFUSED = [1, 58, 115, 132, 136, 256, 262]

function sockets(): SeccompRule[] {
  const families = [AF_UNIX, AF_INET, AF_INET6].map((family) => when(0, exactly(family)))
  const types = [SOCK_STREAM, SOCK_DGRAM].map((type) => when(1, { mask: SOCK_TYPE_MASK, value: type }))
  const badTypes = SOCK_TYPES_REFUSED.map((type) => when(1, { mask: SOCK_TYPE_MASK, value: type }))
  const made = families.flatMap((family) => types.map((type) => [family, type]))
  return [
    ...made.flatMap((both) => PROTOCOLS.map((protocol) => allow(['socket'], [...both, when(2, exactly(protocol))]))),
    ...made.flatMap((both) => PROTOCOLS_REFUSED.map((protocol) => refuse(['socket'], EPROTONOSUPPORT, [...both, when(2, exactly(protocol))]))),
    ...families.flatMap((family) => badTypes.map((type) => refuse(['socket'], ESOCKTNOSUPPORT, [family, type]))),
    // Netlink too: os.networkInterfaces() of Node throws on any answer, and this is the one that says why.
    ...othersThan([AF_UNIX, AF_INET, AF_INET6]).map((family) => refuse(['socket'], EAFNOSUPPORT, [when(0, family)])),
    ...allowValues('socketpair', 0, [exactly(AF_UNIX)]),
    ...othersThan([AF_UNIX]).map((family) => refuse(['socketpair'], EAFNOSUPPORT, [when(0, family)])),
  ]
}

/** include/uapi/asm-generic/ioctls.h, include/uapi/linux/fs.h and fscrypt.h; numbers are the same on both architectures. */
const IOCTLS_REFUSED = [
  0x5412, // TIOCSTI: types into a terminal
  0x541c, // TIOCLINUX: pastes into a console
  0x5423, // TIOCSETD: loads a line discipline, whose drivers are seldom looked after
  0x401c_5820, // FS_IOC_FSSETXATTR: leaves the project that DiskMax is counted on
  0x4008_6602, // FS_IOC_SETFLAGS: drops the flag by which new files inherit that project
  0x800c_6613, // FS_IOC_SET_ENCRYPTION_POLICY: a data directory that no backup can read
  0xc050_6617, // FS_IOC_ADD_ENCRYPTION_KEY: the kernel's keyrings by another door
]

function terminalsAndFileFlags(): SeccompRule[] {
  return [
    ...allowValues('ioctl', 1, othersThan(IOCTLS_REFUSED)),
    ...IOCTLS_REFUSED.map((request) => refuse(['ioctl'], EPERM, [when(1, exactly(request))])),
  ]
}

const RLIMIT_CORE = 4

/** RLIMIT_CORE is 1 and stays so: 1 keeps a piped core_pattern from running its helper as root, 0 would not. */
function limits(): SeccompRule[] {
  const core = exactly(RLIMIT_CORE)
  const noNewValue: RuleArgument = { index: 2, value: 0, op: 'SCMP_CMP_EQ' } // a pointer: all 64 bits count
  const someNewValue: RuleArgument = { index: 2, value: 0, op: 'SCMP_CMP_NE' }
  return [
    ...allowValues('setrlimit', 0, othersThan([RLIMIT_CORE])),
    refuse(['setrlimit'], EPERM, [when(0, core)]),
    ...allowValues('prlimit64', 1, othersThan([RLIMIT_CORE])),
    allow(['prlimit64'], [when(1, core), noNewValue]),
    refuse(['prlimit64'], EPERM, [when(1, core), someNewValue]),
  ]
}

function allow(names: readonly string[], args?: readonly RuleArgument[]): SeccompRule {
  return { names, action: 'SCMP_ACT_ALLOW', ...(args === undefined ? {} : { args }) }
}

function refuse(names: readonly string[], errnoRet: number, args?: readonly RuleArgument[]): SeccompRule {
  return { names, action: 'SCMP_ACT_ERRNO', errnoRet, ...(args === undefined ? {} : { args }) }
}

/** An entry per value, not one entry with several: runc reads repeated conditions on one argument as "or", the specification as "and". */
function allowValues(name: string, index: number, values: readonly MaskedValue[]): SeccompRule[] {
  return values.map((value) => allow([name], [when(index, value)]))
}

/** In the OCI form of a masked compare `value` is the mask and `valueTwo` what must remain. */
function when(index: number, { mask, value }: MaskedValue): RuleArgument {
  return { index, value: mask, valueTwo: value, op: 'SCMP_CMP_MASKED_EQ' }
}

function forArchitecture(rule: SeccompRule, architecture: 'x86_64' | 'aarch64'): SeccompRule[] {
  if (architecture === 'x86_64') return [rule]
  const names = rule.names.filter((name) => !X86_ONLY.has(name))
  return names.length === 0 ? [] : [{ ...rule, names }]
}
