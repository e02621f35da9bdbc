import { chownSync, chmodSync } from 'node:fs'
import { newRunId, type RunId } from '../base/ids.ts'
import { bundlePaths, makeDirs, removePlaces, type Bundle } from './bundle.ts'
import { removeSealedNetwork, startSealedNetwork, type SealedNetwork } from './network.ts'
import { standUp, type Standing, type StandingHost } from './standing.ts'

/**
 * What a run needs that knows nothing of its plugin yet: FIFOs, a socket directory, a sealed network namespace. Made by a handful of
 * programs, which costs more than all the rest of a start, so a daemon keeps one ready.
 */
export interface Slot {
  readonly runId: RunId
  readonly bundle: Bundle
  readonly network: SealedNetwork
  /** Mount point of its own small tmpfs; null where no socket is served. */
  readonly socketDir: string | null
  /** Its network has all its routes and rules. Nothing of a plugin may run in it before; rejects with CordonError LAUNCH_PROGRAM. */
  readonly sealed: Promise<void>
  /** The runtime's process, waiting. */
  readonly standing: Standing
  remove(): Promise<void>
}

export interface SlotPlaces {
  readonly bundlesDir: string
  readonly networksDir: string
  /** null: no socket directories (`cordon run`). */
  readonly socketsDir: string | null
  readonly ipv6: boolean
}

/** Make one, up to what a runtime needs to begin; on failure nothing of it is left. */
export async function makeSlot(places: SlotPlaces, host: StandingHost): Promise<Slot> {
  const runId = newRunId()
  const bundle = bundlePaths(places.bundlesDir, runId)
  const socketDir = places.socketsDir === null ? null : `${places.socketsDir}/${runId}`
  const made: { standing?: Standing; network?: SealedNetwork; sealed?: Promise<void> } = {}
  const remove = async (): Promise<void> => {
    await made.standing?.dismiss()
    await removePlaces(bundle, socketDir)
    await made.sealed?.catch(() => {}) // whoever waits for it hears of it
    if (made.network !== undefined) await removeSealedNetwork(made.network)
  }
  try {
    makeDirs(bundle, socketDir)
    // Side by side, since most of either is spent in other processes. The runtime's first: it has the longer way to what is needed of it.
    const standing = standUp(host, bundle, runId, { socketDir }).then((one) => (made.standing = one))
    const started = startSealedNetwork(`${places.networksDir}/${runId}`, places.ipv6).then((one) => Object.assign(made, one))
    await Promise.allSettled([standing, started])
    const { network, sealed } = await started
    return { runId, bundle, network, socketDir, sealed, standing: await standing, remove }
  } catch (error) {
    await remove()
    throw error
  }
}

/** The socket directory becomes the plugin's; the gateway's group may enter, nobody else. 02750: sockets in it get that group. */
export function assignSocketDir(path: string, uid: number, gatewayGid: number): void {
  chownSync(path, uid, gatewayGid)
  chmodSync(path, 0o2750)
}

export interface SlotSource {
  take(): Promise<Slot>
  /** Stop preparing, take away what was prepared. */
  close(): Promise<void>
}

/** After a slot was taken, the next one is made once that start is out of the way. */
const REFILL_AFTER_MS = 250

/** @param prepare keep one slot ready; else each is made when it is asked for */
export function slotSource(places: SlotPlaces, host: StandingHost, prepare: boolean): SlotSource {
  let closed = false
  let ready: Promise<Slot> | null = null
  const refill = (): void => {
    if (!prepare || closed || ready !== null) return
    ready = makeSealed(places, host)
    ready.catch(() => { ready = null }) // the next start makes its own and reports why it cannot
  }
  refill()
  return {
    async take() {
      const next = ready
      ready = null
      if (prepare) setTimeout(refill, REFILL_AFTER_MS).unref()
      return next ?? makeSlot(places, host)
    },
    async close() {
      closed = true
      await (await ready?.catch(() => null))?.remove() // what could not be made has tidied up after itself
    },
  }
}

async function makeSealed(places: SlotPlaces, host: StandingHost): Promise<Slot> {
  const slot = await makeSlot(places, host)
  try {
    await slot.sealed
    return slot
  } catch (error) {
    await slot.remove()
    throw error
  }
}
