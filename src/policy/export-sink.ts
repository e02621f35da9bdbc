/** Where copies of the audit records go, beside the log itself (`audit.export` of cordon.yaml). */
export type ExportSink =
  /** The journal of this host. */
  | { readonly kind: 'journald' }
  /** RFC 5424 over TLS (RFC 5425), or over TCP with octet counting (RFC 6587 section 3.4.1). */
  | { readonly kind: 'syslog'; readonly host: string; readonly port: number; readonly tls: boolean; /** PEM file of its authority; null: those that Node trusts. */ readonly ca: string | null }

/** As the operator names it, in records and messages. */
export function sinkName(sink: ExportSink): string {
  return sink.kind === 'journald' ? 'journald' : `syslog ${sink.host.includes(':') ? `[${sink.host}]` : sink.host}:${sink.port}`
}

/** @returns null when it is no HOST:PORT; an IPv6 address stands in brackets */
export function parseSinkAddress(text: string): { readonly host: string; readonly port: number } | null {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?)):([0-9]{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2]
  const port = Number(match?.[3])
  return host === undefined || port < 1 || port > 65_535 ? null : { host, port }
}
