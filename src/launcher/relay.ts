import type { Socket } from 'node:net'
import type { PluginLog } from './log-file.ts'

/** Bytes of a plugin that may be under way to the gateway, not yet taken; beyond it the launcher stops reading the plugin. */
export const RELAY_WINDOW_BYTES = 256 * 1024

/**
 * A plugin's stdout: every byte to its log, and, until the gateway needs no more of it, to the gateway. Never looked at here.
 */
export class StdoutRelay {
  readonly #source: Socket
  #send: ((bytes: Buffer) => void) | null
  #underWay = 0
  /** How many bytes ever came: none at all before its exit is the sign of an older generation (protocol section 6). */
  total = 0

  constructor(source: Socket, log: PluginLog, send: (bytes: Buffer) => void) {
    this.#source = source
    this.#send = send
    source.on('data', (bytes: Buffer) => {
      this.total += bytes.length
      log.write(bytes)
      if (this.#send === null) return
      this.#underWay += bytes.length
      this.#send(bytes)
      if (this.#underWay >= RELAY_WINDOW_BYTES) source.pause()
    })
  }

  /** The gateway consumed that many. @returns false when it claims more than it was sent */
  taken(bytes: number): boolean {
    if (bytes > this.#underWay) return this.#send === null // after `finish` late claims are expected
    this.#underWay -= bytes
    if (this.#underWay < RELAY_WINDOW_BYTES) this.#source.resume()
    return true
  }

  /** From now on only the log gets it; the plugin is drained for life. */
  finish(): void {
    this.#send = null
    this.#underWay = 0
    this.#source.resume()
  }
}
