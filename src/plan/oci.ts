import { OOM_SCORE_ADJ } from './limits.ts'
import { INSIDE } from './mounts.ts'
import type { PlanMount, SandboxPlan } from './plan.ts'

/**
 * Reads one line, then becomes the program (POSIX sh; dash reads byte by byte, so the rest of stdin stays intact).
 * `go` starts it (without the PWD that sh adds to the environment); `go SECRET` adds the generation 1 argument, which therefore stands in no file. Anything else, or the
 * launcher's death, ends it with 125.
 */
const GATE = 'IFS= read -r go || exit 125; unset PWD; case $go in go) exec "$@" ;; "go "*) exec "$@" --auth-secret "${go#go }" ;; esac; exit 125'
const GATE_PROGRAM = '/bin/sh'

/** argv of the gate; attestation compares it with /proc/PID/cmdline. */
export function gateArguments(plan: SandboxPlan): string[] {
  return [GATE_PROGRAM, '-c', GATE, 'cordon-gate', ...plan.args]
}

/**
 * A plan as an OCI runtime spec (config.json). Pure.
 * @param staged host paths to bind instead of a mount's source, by destination (launcher/pin.ts)
 */
export function renderOci(plan: SandboxPlan, staged: ReadonlyMap<string, string> = new Map()): object {
  const gated = gateArguments(plan)
  // pdeathsig first: it outlives execve and ends the init, and with it the whole pid namespace, when the runtime dies.
  // Cordon's own processes have no init: their seccomp profile knows no fork.
  const args = ['/usr/bin/setpriv', '--pdeathsig', 'KILL', '--', ...(plan.own ? gated : [INSIDE.init, '--', ...gated])]
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: false,
      user: { uid: plan.user.uid, gid: plan.user.gid, additionalGids: plan.user.additionalGids, umask: 0o077 },
      args,
      env: Object.entries(plan.env).map(([name, value]) => `${name}=${value}`),
      cwd: plan.cwd,
      capabilities: { bounding: [], effective: [], inheritable: [], permitted: [], ambient: [] },
      rlimits: [limit('RLIMIT_NOFILE', plan.rlimits.NOFILE), limit('RLIMIT_CORE', plan.rlimits.CORE)],
      noNewPrivileges: true,
      oomScoreAdj: OOM_SCORE_ADJ,
    },
    root: { path: plan.rootPath, readonly: true },
    hostname: plan.hostname,
    mounts: plan.mounts.map((mount) => renderMount(mount, staged)),
    linux: {
      cgroupsPath: plan.cgroup.path,
      resources: plan.cgroup.version === 2 ? unifiedResources(plan) : legacyResources(plan),
      namespaces: [
        { type: 'mount' }, { type: 'pid' }, { type: 'ipc' }, { type: 'uts' }, { type: 'cgroup' },
        ...(plan.namespaces.networkPath === null ? [] : [{ type: 'network', path: plan.namespaces.networkPath }]),
      ],
      maskedPaths: plan.masked,
      readonlyPaths: plan.readonly,
      seccomp: plan.seccomp,
      // The gateway must see socket directories that are mounted after it started; nothing of its own goes back.
      rootfsPropagation: plan.own ? 'rslave' : 'rprivate',
    },
  }
}

function limit(type: string, value: number) {
  return { type, soft: value, hard: value }
}

function renderMount(mount: PlanMount, staged: ReadonlyMap<string, string>) {
  const source = staged.get(mount.destination) ?? mount.source
  return { destination: mount.destination, type: mount.type === 'bind' ? 'none' : mount.type, source, options: mount.options }
}

const NO_DEVICES = [{ allow: false, access: 'rwm' }]

/** cgroup-v2.rst; crun writes `unified` as it is. The OOM killer takes the whole group, swap is closed. */
function unifiedResources({ cgroup }: SandboxPlan) {
  const unified: Record<string, string> = {
    'memory.max': String(cgroup.memoryMaxBytes),
    'memory.swap.max': '0',
    'memory.oom.group': '1',
    'cpu.max': `${cgroup.cpuQuotaUs} ${cgroup.cpuPeriodUs}`,
    'pids.max': String(cgroup.tasksMax),
  }
  if (cgroup.memoryHighBytes !== null) unified['memory.high'] = String(cgroup.memoryHighBytes)
  if (cgroup.cpuWeight !== null) unified['cpu.weight'] = String(cgroup.cpuWeight)
  if (cgroup.ioWeight !== null) unified['io.weight'] = `default ${cgroup.ioWeight}`
  if (cgroup.ioBandwidth !== null) {
    const { device, readBps, writeBps } = cgroup.ioBandwidth
    unified['io.max'] = `${device}${readBps === null ? '' : ` rbps=${readBps}`}${writeBps === null ? '' : ` wbps=${writeBps}`}`
  }
  return { devices: NO_DEVICES, unified }
}

/** Hybrid and v1 hosts, runc: memory, CPU and task limits hold; the group kill after an OOM is the launcher's. */
function legacyResources({ cgroup }: SandboxPlan) {
  const [major, minor] = (cgroup.ioBandwidth?.device ?? '0:0').split(':').map(Number)
  const throttle = (rate: number | null | undefined) => (rate == null ? [] : [{ major, minor, rate }])
  return {
    devices: NO_DEVICES,
    memory: { limit: cgroup.memoryMaxBytes, swap: cgroup.memoryMaxBytes, disableOOMKiller: false },
    cpu: { quota: cgroup.cpuQuotaUs, period: cgroup.cpuPeriodUs, ...(cgroup.cpuWeight === null ? {} : { shares: sharesFromWeight(cgroup.cpuWeight) }) },
    pids: { limit: cgroup.tasksMax },
    ...(cgroup.ioWeight === null && cgroup.ioBandwidth === null ? {} : {
      blockIO: {
        ...(cgroup.ioWeight === null ? {} : { weight: Math.min(1000, Math.max(10, cgroup.ioWeight)) }),
        throttleReadBpsDevice: throttle(cgroup.ioBandwidth?.readBps),
        throttleWriteBpsDevice: throttle(cgroup.ioBandwidth?.writeBps),
      },
    }),
  }
}

/** systemd's mapping: weight 100 is 1024 shares (systemd.resource-control(5), CPUShares=). */
export function sharesFromWeight(weight: number): number {
  return Math.min(262_144, Math.max(2, Math.round((weight * 1024) / 100)))
}
