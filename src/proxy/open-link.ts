import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Sessions } from '../access/sessions.ts'
import { FailedTries } from '../access/tries.ts'
import type { PluginName } from '../base/ids.ts'
import { clientOf } from './judge.ts'
import type { Ledger } from './ledger.ts'
import { problem, redirect, sendProblem } from './problem.ts'

export type OpenLink = (req: IncomingMessage, res: ServerResponse, plugin: PluginName, port: number, guards: readonly string[]) => void

/**
 * The address of one-time links on a plugin's origin.
 *
 * A GET that has an effect, so that a link from a terminal works in one step. What loads ahead of the user says so and is turned
 * away with the link unspent, and so is HEAD; what does not say so has put the cookie into the very browser that wanted it.
 * @param now milliseconds since 1970
 */
export function linkOpener(sessions: Sessions, ledger: Ledger, now: () => number): OpenLink {
  /** Apart from those of tokens: a page can make its browser open links, and must not shut the API for everybody on that machine. */
  const tries = new FailedTries()
  return (req, res, plugin, port, guards) => {
    const { headers } = req
    const ahead = `${headers['sec-purpose'] ?? ''} ${headers['purpose'] ?? ''} ${headers['x-moz'] ?? ''}`.includes('prefetch')
    const mode = headers['sec-fetch-mode']
    if (req.method !== 'GET' || ahead || (mode !== undefined && mode !== 'navigate')) {
      return sendProblem(res, problem('PROXY_METHOD_REFUSED', 'A link is opened by a GET in a browser window, not ahead of time.'), guards, { allow: 'GET' })
    }
    const client = clientOf(req)
    const wait = tries.waitSeconds(client, now())
    if (wait > 0) return sendProblem(res, problem('ACCESS_TOO_MANY_TRIES', 'Too many failed tries from this address.'), guards, { 'retry-after': String(wait) })
    const token = /[?&]t=([A-Za-z0-9_-]{43})(?:&|$)/.exec(req.url ?? '')?.[1] ?? ''
    const framed = headers['sec-fetch-dest'] === 'iframe'
    const cookie = sessions.open(token, plugin, port, framed, now())
    if (cookie === null) {
      const by = headers['sec-fetch-site']
      if (by === undefined || by === 'none') tries.failed(client, now()) // else a page did it, which could so keep the user from links of his own
      ledger.denied('/_cordon/open', client, 'a spent, expired or invented link')
      return sendProblem(res, problem('ACCESS_LINK_SPENT', 'This link was used, is too old, or was never given out.'), guards)
    }
    ledger.granted(plugin, client, 'one-time-link')
    redirect(res, 303, `/api/x/${plugin}/ui/`, guards, { 'set-cookie': cookie })
  }
}
