/** Limits of the HTTP front, each with its unit and its reason. */
export interface FrontLimits {
  /** All header lines of a request together; Node's default, ample for browsers. */
  readonly headerBytes: number
  /** Header lines of a request; more are refused, for Node would drop them silently. */
  readonly headerCount: number
  /** From the first byte of a request to the end of its headers (slowloris). */
  readonly headersTimeoutMs: number
  /** From the first byte of a request to the end of its body: 32 MiB over a slow line. */
  readonly requestTimeoutMs: number
  /** Idle connections of callers. */
  readonly keepAliveTimeoutMs: number
  readonly connections: number
  /** SDKs refuse more than 32 MiB themselves (protocol section 12.5). */
  readonly requestBodyBytes: number
  /** Wait for a free connection to the plugin, connecting (5 s) included. */
  readonly queueTimeoutMs: number
  /** From the request's end to the response's headers. None between body chunks: event streams pause. */
  readonly responseHeadersTimeoutMs: number
  /** A caller that takes nothing of what lies ready for it: it holds one of the plugin's connections, and one of ours. */
  readonly readerStallMs: number
}

export const FRONT_LIMITS: FrontLimits = {
  headerBytes: 16 * 1024,
  headerCount: 100,
  headersTimeoutMs: 15_000,
  requestTimeoutMs: 300_000,
  keepAliveTimeoutMs: 30_000,
  connections: 1024,
  requestBodyBytes: 32 * 1024 * 1024,
  queueTimeoutMs: 15_000,
  responseHeadersTimeoutMs: 60_000,
  readerStallMs: 60_000,
}
