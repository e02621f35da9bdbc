import type { RunId } from '../base/ids.ts'
import type { SandboxPlan } from '../plan/plan.ts'
import type { RunPlaces } from '../plan/compile.ts'
import { bundlePaths, etcBinds, makePlaces, removePlaces } from './bundle.ts'
import type { LaunchHost } from './host.ts'
import { removeSealedNetwork, type SealedNetwork } from './network.ts'
import { startGated, type GatedRun } from './sandbox.ts'

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
  readonly runId: RunId
  /** Name of the cgroup group, `plugins/NAME`: its lasting parent. */
  readonly group: string
  readonly uid: number
  readonly object: RunPlaces['object']
  readonly dataPath: string | null
  /** Name of its socket directory; null: it serves no socket. */
  readonly socketName: string | null
  readonly compile: (places: RunPlaces) => SandboxPlan
}

/** Make namespace, FIFOs and socket directory side by side, then compile. On failure nothing is left behind. */
export async function openRun(host: LaunchHost, request: RunRequest): Promise<OpenRun> {
  const { runId, uid } = request
  const bundle = bundlePaths(host.bundlesDir, runId)
  const socketDir = request.socketName === null ? null : `${host.socketsDir}/${request.socketName}`
  const made = await Promise.allSettled([
    host.takeNetwork(),
    makePlaces(bundle, socketDir === null ? null : { path: socketDir, uid, gatewayGid: host.users.own.gateway }),
  ])
  const network = made[0].status === 'fulfilled' ? made[0].value : null
  const remove = async (): Promise<void> => {
    await removePlaces(bundle, socketDir)
    if (network !== null) await removeSealedNetwork(network)
  }
  try {
    for (const result of made) if (result.status === 'rejected') throw result.reason
    if (network === null) throw new Error('unreachable')
    const plan = request.compile({
      runId, uid,
      rootPath: bundle.rootPath,
      initPath: host.initPath,
      netnsPath: network.path,
      cgroupPath: host.tree.ociPath(request.group, runId),
      etc: etcBinds(),
      object: request.object,
      dataPath: request.dataPath,
      socketDirPath: socketDir,
    })
    return { plan, network, socketPath: socketDir === null ? null : `${socketDir}/plugin.sock`, start: () => startGated(host, plan, bundle, request.group, network), remove }
  } catch (error) {
    await remove()
    throw error
  }
}
