import { chownSync, chmodSync } from 'node:fs'
import { newRunId, type RunId } from '../base/ids.ts'
import { bundlePaths, makePlaces, removePlaces, type Bundle } from './bundle.ts'
import { makeSealedNetwork, removeSealedNetwork, type SealedNetwork } from './network.ts'

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
  const made = await Promise.allSettled([makeSealedNetwork(`${places.networksDir}/${runId}`, places.ipv6), makePlaces(bundle, socketDir)])
  const remove = async (): Promise<void> => {
    await removePlaces(bundle, socketDir)
    if (made[0].status === 'fulfilled') await removeSealedNetwork(made[0].value)
  }
  if (made[0].status === 'fulfilled' && made[1].status === 'fulfilled') return { runId, bundle, network: made[0].value, socketDir, remove }
  await remove()
  throw (made.find((one) => one.status === 'rejected') as PromiseRejectedResult).reason
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

/** @param prepare keep one slot ready */
export function slotSource(places: SlotPlaces, prepare: boolean): SlotSource {
  let closed = false
  let ready: Promise<Slot> | null = null
  const refill = (): void => {
    if (!prepare || closed || ready !== null) return
    ready = makeSlot(places)
    ready.catch(() => { ready = null }) // the next start makes its own and reports why it cannot
  }
  refill()
  return {
    async take() {
      const next = ready
      ready = null
      if (prepare) setTimeout(refill, REFILL_AFTER_MS).unref()
      return next ?? makeSlot(places)
    },
    async close() {
      closed = true
      await (await ready?.catch(() => null))?.remove()
    },
  }
}
