import { chownSync, chmodSync } from 'node:fs'
import { newRunId, type RunId } from '../base/ids.ts'
import { bundlePaths, placesProgram, removePlaces, type Bundle } from './bundle.ts'
import { makeSealedNetwork, removeSealedNetwork, type SealedNetwork } from './network.ts'
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
  /** The runtime's process, waiting; null where the slot was not made ahead. */
  readonly standing: Standing | null
  remove(): Promise<void>
}

export interface SlotPlaces {
  readonly bundlesDir: string
  readonly networksDir: string
  /** null: no socket directories (`cordon run`). */
  readonly socketsDir: string | null
  readonly ipv6: boolean
}

/** Make one; on failure nothing of it is left. */
export async function makeSlot(places: SlotPlaces): Promise<Slot> {
  const runId = newRunId()
  const bundle = bundlePaths(places.bundlesDir, runId)
  const socketDir = places.socketsDir === null ? null : `${places.socketsDir}/${runId}`
  try {
    const network = await makeSealedNetwork(`${places.networksDir}/${runId}`, places.ipv6, placesProgram(bundle, socketDir))
    const remove = async (): Promise<void> => {
      await removePlaces(bundle, socketDir)
      await removeSealedNetwork(network)
    }
    return { runId, bundle, network, socketDir, standing: null, remove }
  } catch (error) {
    await removePlaces(bundle, socketDir)
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

/** @param prepare keep one slot ready, with the runtime of this host; null: each is made when it is asked for */
export function slotSource(places: SlotPlaces, prepare: StandingHost | null): SlotSource {
  let closed = false
  let ready: Promise<Slot> | null = null
  const refill = (): void => {
    if (prepare === null || closed || ready !== null) return
    ready = makeSlot(places).then((slot) => withRuntime(slot, prepare))
    ready.catch(() => { ready = null }) // the next start makes its own and reports why it cannot
  }
  refill()
  return {
    async take() {
      const next = ready
      ready = null
      if (prepare !== null) setTimeout(refill, REFILL_AFTER_MS).unref()
      return next ?? makeSlot(places)
    },
    async close() {
      closed = true
      await (await ready?.catch(() => null))?.remove()
    },
  }
}

async function withRuntime(slot: Slot, host: StandingHost): Promise<Slot> {
  let standing: Standing
  try {
    standing = standUp(host, slot.bundle, slot.runId)
  } catch (error) {
    await slot.remove()
    throw error
  }
  const remove = async (): Promise<void> => {
    await standing.dismiss()
    await slot.remove()
  }
  return { ...slot, standing, remove }
}
