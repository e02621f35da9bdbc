import type { IncomingMessage } from 'node:http'
import { bearerOf, tokenCheck } from '../access/tokens.ts'
import { FailedTries } from '../access/tries.ts'
import { clientOf, pathOf } from './judge.ts'
import type { Ledger } from './ledger.ts'

export interface TokenRefusal {
  readonly code: 'ACCESS_NO_CREDENTIALS' | 'ACCESS_BAD_TOKEN' | 'ACCESS_TOO_MANY_TRIES'
  readonly detail: string
  /** Seconds until another try is looked at; 0: at once. */
  readonly wait: number
}

/** @param plugin '' for the host's own API @returns null for the operator; both ways it is on record */
export type CheckToken = (req: IncomingMessage, plugin: string) => TokenRefusal | null

/** @param adminTokenSha256 64 hex digits @param now milliseconds since 1970 */
export function tokenChecker(adminTokenSha256: string, ledger: Ledger, now: () => number): CheckToken {
  const tries = new FailedTries()
  const isAdminToken = tokenCheck(adminTokenSha256)
  return (req, plugin) => {
    const client = clientOf(req)
    if (req.headers.authorization === undefined) {
      ledger.denied(pathOf(req), client, 'no credentials')
      return { code: 'ACCESS_NO_CREDENTIALS', detail: 'No token was sent.', wait: 0 }
    }
    const wait = tries.waitSeconds(client, now())
    if (wait > 0) {
      ledger.denied(pathOf(req), client, 'too many failed tries')
      return { code: 'ACCESS_TOO_MANY_TRIES', detail: 'Too many failed tries from this address.', wait }
    }
    const token = bearerOf(req.headers.authorization)
    if (token !== null && isAdminToken(token)) {
      ledger.granted(plugin, client, 'token')
      return null
    }
    tries.failed(client, now())
    ledger.denied(pathOf(req), client, 'a wrong token')
    return { code: 'ACCESS_BAD_TOKEN', detail: 'The token is not valid.', wait: 0 }
  }
}
