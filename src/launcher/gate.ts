import { closeSync, constants, existsSync, openSync, readFileSync, readlinkSync, statSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { SandboxPlan } from '../plan/plan.ts'
import { attestAbove, attestDescriptors, attestProcess, attestProgram, type AttestContext } from './attest.ts'
import type { Bundle } from './bundle.ts'
import type { Difference } from './comparison.ts'

/** From the runtime's start to a gate that waits; a loaded emulated machine needs seconds. */
const GATE_TIMEOUT_MS = 60_000
const POLL_MS = 1
/** How often the gate is asked for without a pause once its init is there: some ten milliseconds of one CPU. */
const MAX_SPINS = 200

/** Open /proc directories; both the same where the gate is the init itself. */
export interface Gate {
  readonly initFd: number
  readonly gateFd: number
}

/**
 * @param exited settles when the run is over, however that went
 * @returns descriptors that are the caller's to close
 * @throws CordonError LAUNCH_RUNTIME with the runtime's own words
 */
export async function waitForGate(bundle: Bundle, plan: SandboxPlan, exited: Promise<unknown>): Promise<Gate> {
  let ended = false
  const over = (): void => { ended = true }
  exited.then(over, over)
  const shell = statSync('/bin/sh')
  const until = Date.now() + GATE_TIMEOUT_MS
  let initFd: number | null = null
  let asked = 0
  try {
    while (Date.now() < until) {
      if (ended) throw new CordonError('LAUNCH_RUNTIME', `${plan.runtime} could not start it: ${runtimeLog(bundle)}`)
      initFd ??= openInit(bundle)
      if (initFd !== null) {
        const gateFd = findGate(initFd, shell, plan.own)
        if (gateFd !== null) return { initFd, gateFd }
        // A few milliseconds are left: ask at once again, for a timer would add one.
        if (++asked < MAX_SPINS) await new Promise(setImmediate)
        else await sleep(POLL_MS)
      } else {
        await sleep(POLL_MS)
      }
    }
    throw new CordonError('LAUNCH_RUNTIME', `${plan.runtime} did not reach the gate within ${GATE_TIMEOUT_MS / 1000} s: ${runtimeLog(bundle)}`)
  } catch (error) {
    if (initFd !== null) closeSync(initFd)
    throw error
  }
}

function openInit(bundle: Bundle): number | null {
  if (!existsSync(bundle.pidFile)) return null
  const pid = readFileSync(bundle.pidFile, 'utf8')
  if (!/^\d+$/.test(pid)) return null
  try {
    return openSync(`/proc/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch {
    return null // it has ended already; the runtime's exit tells more
  }
}

/**
 * The gate is the process that has become the shell and sleeps in its `read`: the init itself for the gateway, its only child otherwise.
 * (Before it sleeps, the dynamic loader may have a library open, which the attestation would rightly not accept.)
 */
function findGate(initFd: number, shell: { dev: number; ino: number }, direct: boolean): number | null {
  const isShell = (proc: string): boolean => {
    try {
      const exe = statSync(`${proc}/exe`)
      return exe.ino === shell.ino && exe.dev === shell.dev && /^State:\s+S/m.test(readFileSync(`${proc}/status`, 'utf8'))
    } catch {
      return false // between fork and exec, or gone; the caller asks again
    }
  }
  const init = `/proc/self/fd/${initFd}`
  if (direct) return isShell(init) ? initFd : null
  const pid = readlinkSync(init).split('/').pop() ?? ''
  let child: string
  try {
    child = readFileSync(`${init}/task/${pid}/children`, 'utf8').trim()
  } catch {
    return null // the init has ended; the runtime's exit tells more
  }
  if (!/^\d+$/.test(child)) return null
  let fd: number
  try {
    fd = openSync(`/proc/${child}`, constants.O_RDONLY | constants.O_DIRECTORY)
  } catch {
    return null // the same, or it forked again; the caller asks again
  }
  if (isShell(`/proc/self/fd/${fd}`)) return fd
  closeSync(fd)
  return null
}

/**
 * The gate, which becomes the program, and the init above it. Closes the gate's descriptor.
 * @throws CordonError LAUNCH_RUNTIME when they are gone already
 */
export async function attestGate({ initFd, gateFd }: Gate, plan: SandboxPlan, context: AttestContext, ready: Promise<unknown> | undefined): Promise<{ found: Record<string, string>; differences: Difference[] }> {
  try {
    await ready
    const proc = `/proc/self/fd/${gateFd}`
    const { found, differences } = attestProcess(proc, plan, context)
    differences.push(...attestDescriptors(proc, context), ...attestProgram(proc, plan))
    if (initFd !== gateFd) {
      const known = new Set(differences.map(({ what, found: seen }) => `${what} ${seen}`))
      differences.push(...attestAbove(`/proc/self/fd/${initFd}`, proc, plan, context).filter(({ what, found: seen }) => !known.has(`${what} ${seen}`)))
    }
    return { found, differences }
  } catch (error) {
    // proc(5): of a process that has ended, whoever ended it.
    const gone = error instanceof Error && 'code' in error && (error.code === 'ESRCH' || error.code === 'ENOENT')
    throw gone ? new CordonError('LAUNCH_RUNTIME', 'it was ended while it stood at the gate', { cause: error }) : error
  } finally {
    if (initFd !== gateFd) closeSync(gateFd)
  }
}

function runtimeLog(bundle: Bundle): string {
  try {
    const last = readFileSync(bundle.logFile, 'utf8').trim().split('\n').slice(-3)
    return printable(last.map((line) => String((JSON.parse(line) as { msg?: unknown }).msg)).join('; '), 800)
  } catch {
    return 'the runtime left no message' // no log, or not in its format: that it ended stands in the error all the same
  }
}
