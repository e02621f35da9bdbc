import { MAX_FRAME_BYTES } from '../wire/frame.ts'
import type { PluginStatus } from '../wire/requests.ts'

/** Room for the rest of the message that carries the list. */
const SPARE_BYTES = 1024
const SHORTEST_REASON = 40

/**
 * All plugins in one frame: where many have long reasons, the reasons are cut, so that plugins cannot talk the host out of telling
 * its own state. @returns the same list when it fits
 */
export function fitToFrame(statuses: readonly PluginStatus[]): PluginStatus[] {
  for (let most = 4000; ; most = Math.floor(most / 2)) {
    const cut = statuses.map((status) => (status.reason === null || status.reason.length <= most ? status : { ...status, reason: `${status.reason.slice(0, most - 1)}…` }))
    if (most < SHORTEST_REASON || Buffer.byteLength(JSON.stringify(cut)) <= MAX_FRAME_BYTES - SPARE_BYTES) return cut
  }
}
