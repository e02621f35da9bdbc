import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'

const ROLES = ['admin', 'platform_admin', 'user', 'reader', 'api_reader', 'custom', 'metrics_ingest']

/** Compared as hashes: equal length is what timingSafeEqual needs, and the length of the secret is not given away. */
export function secretMatches(given: string | string[] | undefined, secret: string): boolean {
  const hash = (text: string) => createHash('sha256').update(text).digest()
  return typeof given === 'string' && timingSafeEqual(hash(given), hash(secret))
}

/** Who the host says is asking: nobody (null), a user, or `invalid` when the three headers do not come together. */
export function caller(headers: IncomingHttpHeaders): { email: string; role: string } | null | 'invalid' {
  const [id, email, role] = ['x-temps-user-id', 'x-temps-user-email', 'x-temps-user-role'].map((name) => headers[name])
  if (id === undefined && email === undefined && role === undefined) return null
  if (typeof id !== 'string' || !/^-?\d{1,10}$/.test(id)) return 'invalid'
  if (typeof email !== 'string' || email === '') return 'invalid'
  if (typeof role !== 'string' || !ROLES.includes(role)) return 'invalid'
  return { email, role }
}
