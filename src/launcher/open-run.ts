import type { RunPlaces } from '../plan/compile.ts'
import type { SandboxPlan } from '../plan/plan.ts'
import { etcBinds } from './bundle.ts'
import type { LaunchHost } from './host.ts'
import type { SealedNetwork } from './network.ts'
import { startGated, type GatedRun } from './sandbox.ts'
import { assignSocketDir, type Slot } from './slots.ts'

/** A run whose places are made and whose plan is compiled; nothing has been started yet. */
export interface OpenRun {
  readonly plan: SandboxPlan
  readonly network: SealedNetwork
  readonly socketPath: string | null
  start(): Promise<GatedRun>
  /** Take everything away again; after the run has ended, or instead of starting it. */
  remove(): Promise<void>
}

export interface RunRequest {
  /** Name of the cgroup group: a plugin's name, `run`. */
  readonly group: string
  readonly uid: number
  readonly object: RunPlaces['object']
  readonly dataPath: string | null
  /** Opens its door and resolves when its listeners are there; null: it stays shut. */
  readonly door: ((slot: Slot) => Promise<unknown>) | null
  readonly compile: (places: RunPlaces) => SandboxPlan
}

/** Turn a slot into a run of its own. On failure the slot is taken away. */
export async function openRun(host: LaunchHost, slot: Slot, request: RunRequest): Promise<OpenRun> {
  const { runId, bundle, network, socketDir } = slot
  try {
    if (socketDir !== null) assignSocketDir(socketDir, request.uid, host.users.own.gateway)
    const plan = request.compile({
      runId,
      uid: request.uid,
      rootPath: bundle.rootPath,
      initPath: host.initPath,
      netnsPath: network.path,
      cgroupPath: host.tree.ociPath(request.group, runId),
      etc: etcBinds(),
      object: request.object,
      dataPath: request.dataPath,
      socketDirPath: socketDir,
      doorUid: request.door === null ? null : host.users.own.doorHelper,
    })
    return {
      plan, network, socketPath: socketDir === null ? null : `${socketDir}/plugin.sock`, remove: slot.remove,
      start: () => {
        const ready = plan.listeners === null ? slot.sealed : slot.sealed.then(() => request.door?.(slot))
        return startGated(host, plan, bundle, request.group, network, { standing: slot.standing, ready })
      },
    }
  } catch (error) {
    await slot.remove()
    throw error
  }
}
