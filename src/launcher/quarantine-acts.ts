import { setTimeout as sleep } from 'node:timers/promises'
import type { AuditOrigin, AuditSink } from '../audit/record.ts'
import type { PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'
import { CordonError } from '../errors.ts'
import type { QuarantineAnswer } from '../wire/operator-answers.ts'
import type { disabledPlugins } from './disabled.ts'
import type { Who } from './peer.ts'
import type { PluginSet } from './plugin-set.ts'
import type { Quarantines } from './quarantines.ts'

/** An answer waits no longer for the disk; the quarantine is in force meanwhile. */
const DURABLE_WAIT_MS = 5000

export interface QuarantineActsDeps {
  readonly plugins: PluginSet
  readonly quarantines: Quarantines
  readonly disabled: ReturnType<typeof disabledPlugins>
  readonly audit: AuditSink
}

/** Shut a plugin in, at once and from anywhere; let it out, from a terminal and on record first. */
export class QuarantineActs {
  readonly #deps: QuarantineActsDeps

  constructor(deps: QuarantineActsDeps) {
    this.#deps = deps
  }

  /**
   * Waits for nothing before the plugin stands still: not for the log, not for the disk, not for an act that is at work.
   * @param who, reason printable @param found who it really is, where that is still being looked up: only the record waits for it
   * @throws CordonError LAUNCH_UNKNOWN_PLUGIN
   */
  async quarantine(name: PluginName, who: Who, reason: string, origin: AuditOrigin, found?: Promise<Who>): Promise<QuarantineAnswer> {
    const { plugins, quarantines, audit } = this.#deps
    const plugin = plugins.known(name)
    // Not the plugin's word: one that is being released is shut in anew.
    if (quarantines.of(name) !== null) return { plugin: plugin.status(), already: true, held: plugin.status().run === null ? 'not-running' : 'frozen', confirmed: true, durable: quarantines.isDurable(name) }
    const quarantine = { since: new Date().toISOString(), who: who.who, reason }
    const { run } = plugin.status()
    const { held, settled } = plugin.hold(quarantine)
    const durable = quarantines.put(name, quarantine).then(() => true)
    const tell = (by: Who): void => audit.note({ type: 'plugin.quarantined', plugin: name, ...(run === null ? {} : { run }), ...by, reason, held }, origin)
    if (found === undefined) tell(who)
    const [confirmed] = await Promise.all([settled, Promise.race([durable, sleep(DURABLE_WAIT_MS, false, { ref: false })]), found?.then(tell)])
    return { plugin: plugin.status(), already: false, held, confirmed, durable: quarantines.isDurable(name) }
  }

  /** @throws CordonError LAUNCH_UNKNOWN_PLUGIN, LAUNCH_STATE when it is in none, AUDIT_UNAVAILABLE when it cannot be put on record */
  async release(name: PluginName, who: Who, reason: string): Promise<void> {
    const { plugins, quarantines, disabled, audit } = this.#deps
    const plugin = plugins.known(name)
    const quarantine = quarantines.of(name)
    if (quarantine === null) throw new CordonError('LAUNCH_STATE', `${name} is ${plugin.state}, not in quarantine`)
    const { run } = plugin.status()
    await audit.append({ type: 'plugin.released', plugin: name, ...(run === null ? {} : { run }), ...who, reason: printable(reason, 300), since: quarantine.since }, 'operator')
    await quarantines.remove(name).catch((cause: unknown) => {
      throw new CordonError('STORE_IO', `${name} stays in quarantine, since its file cannot be removed: ${printable(String(cause), 300)}`, { cause })
    })
    await plugin.release(disabled.has(name))
  }
}
