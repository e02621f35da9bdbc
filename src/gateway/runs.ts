import type { RunId } from '../base/ids.ts'
import { CordonError } from '../errors.ts'
import type { Session } from '../handshake/session.ts'
import type { RunStarted } from './plugin-run.ts'

/** The runs that the launcher told us about, by id and by the stream number of their stdout. */
export class Runs {
  readonly #start: (started: RunStarted) => Session
  readonly #taken: (run: RunId, bytes: number) => void
  readonly #byRun = new Map<RunId, { readonly stream: number; readonly session: Session }>()
  readonly #byStream = new Map<number, RunId>()

  constructor(start: (started: RunStarted) => Session, taken: (run: RunId, bytes: number) => void) {
    this.#start = start
    this.#taken = taken
  }

  /** @throws CordonError WIRE_MALFORMED for a run or stream that is there already */
  started(started: RunStarted): void {
    if (this.#byRun.has(started.run) || this.#byStream.has(started.stream)) {
      throw new CordonError('WIRE_MALFORMED', `run ${started.run} with stream ${started.stream} was started twice`)
    }
    this.#byRun.set(started.run, { stream: started.stream, session: this.#start(started) })
    this.#byStream.set(started.stream, started.run)
  }

  /** A chunk of a plugin's stdout; acknowledged once the session has kept or dropped it, so the launcher may relay as much again. */
  data(stream: number, bytes: Buffer): void {
    const run = this.#byStream.get(stream)
    if (run === undefined || bytes.length === 0) return // the last bytes of a run that has ended: nobody reads them any more
    this.#byRun.get(run)?.session.feed(bytes)
    this.#taken(run, bytes.length)
  }

  stdoutEnd(run: RunId): void {
    this.#byRun.get(run)?.session.stdoutEnd()
  }

  ended(run: RunId): void {
    const known = this.#byRun.get(run)
    if (known === undefined) return
    this.#byRun.delete(run)
    this.#byStream.delete(known.stream)
    known.session.end()
  }
}
