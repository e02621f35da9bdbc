import { hash, timingSafeEqual } from 'node:crypto'

/** Longest token that is hashed at all; ours has 64 characters. */
const TOKEN_MAX_CHARS = 512

/** @returns the credentials of `Authorization: Bearer …` (RFC 6750, 2.1; the scheme in any case), or null when there are none */
export function bearerOf(authorization: string | undefined): string | null {
  if (authorization === undefined || authorization.length > TOKEN_MAX_CHARS + 7) return null
  const match = /^bearer +([A-Za-z0-9\-._~+/]+=*) *$/i.exec(authorization)
  return match?.[1] ?? null
}

export type TokenCheck = (token: string) => boolean

/**
 * @param adminTokenSha256 64 hex digits; the gateway never holds the token itself
 * @returns a check in constant time: digests of equal length are compared, so neither length nor prefix leaks
 */
export function tokenCheck(adminTokenSha256: string): TokenCheck {
  if (!/^[0-9a-f]{64}$/i.test(adminTokenSha256)) throw new TypeError('adminTokenSha256 must be 64 hex digits')
  const want = Buffer.from(adminTokenSha256, 'hex')
  return (token) => timingSafeEqual(hash('sha256', token, 'buffer'), want)
}
