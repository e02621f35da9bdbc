/**
 * Why the door let something through or did not: the closed list that records, `cordon egress` and `why` use; ../audit/RECORDS.md has it for readers.
 * The code never changes its meaning; the sentence names the likely cause in a self-hoster's words. A decision's own
 * sentence (`say`) is this one with names and numbers in it.
 */
export const REASONS = {
  'allowed': 'A rule of the policy names it.',
  'learning': 'No rule names it; it was let through because the policy is learning, which protects nothing.',

  // the name
  'name-malformed': 'What was asked for is no host name: names have letters, digits and hyphens, and international names are written as xn--….',
  'name-is-address': 'An address stands where a name is expected; addresses are reached only under a `cidr` rule.',
  'name-not-allowed': 'No rule names it. If the plugin needs it, add a line to `egress.allow`; if not, this is the wall at work.',
  'apex-not-covered': 'The rule `*.ZONE` covers what is below the zone, not the zone itself; that needs a line of its own.',
  'port-not-allowed': 'The name is allowed, on other ports; add the port to the rule if the plugin needs it.',
  'rule-expired': 'The rule that named it was limited by `until` and has ended.',
  'learning-ended': 'Learning let it through, and learning has ended; no rule names it.',
  'learning-not-public': 'Learning opens public names only; this one is private or means this machine.',

  // the address
  'literal-not-allowed': 'It dialled an address instead of a name, and no `cidr` rule covers it. Rules by name do not open addresses.',
  'synthetic-unknown': 'It dialled an address of 198.18.0.0/15 that no name was given in this run; perhaps it kept an answer of an earlier run.',
  'address-private': 'The address is private (RFC 1918): something of your own network. Add `private: true` to the rule if that is meant.',
  'address-shared': 'The address lies in 100.64.0.0/10, which is Tailscale or carrier NAT. Add `private: true` to the rule if that is meant.',
  'address-unique-local': 'The address is private (fc00::/7): something of your own network or VPN. Add `private: true` to the rule if that is meant.',
  'address-on-link': 'The address is a direct neighbour of this host. Add `private: true` to the rule if that is meant.',
  'address-host': 'The address is this host itself. A service of the host is opened by `host: host.internal` and its port.',
  'address-loopback': 'The address is the loopback of this host. A service of the host is opened by `host: host.internal` and its port. A name that resolves to it is often blocked by a filter such as Pi-hole.',
  'address-unspecified': 'The address is 0.0.0.0 or ::, which would be this host itself; a filter such as Pi-hole or AdGuard answers so for blocked names.',
  'address-link-local': 'The address is link-local: it belongs to the machine or cloud below, and no rule opens it.',
  'address-metadata': 'The address gives a machine its secrets (a metadata service) or commands it; no rule opens it.',
  'address-multicast': 'The address means many machines (multicast); no rule opens it.',
  'address-broadcast': 'The address means all machines (broadcast); no rule opens it.',
  'address-translated': 'The address hides another one that a tunnel or translator would dial (6to4, Teredo, ISATAP, NAT64); no rule opens it.',
  'address-documentation': 'The address is for examples in documents only; the name or the configuration is a placeholder.',
  'address-benchmarking': 'The address is for laboratory tests; Cordon uses that block inside the plugin\'s own walls.',
  'address-reserved': 'The address is reserved or not handed out; nothing public answers there.',
  'own-port': 'A service of Cordon itself listens there; no rule opens it.',

  // what the first bytes say
  'tls-required': 'The rule asks for TLS and the first bytes are none; set `tls: off` in the rule if the protocol is another.',
  'tls-malformed': 'The first bytes look like TLS and are not well formed.',
  'tls-oversized': 'The TLS hello is larger than any client makes it.',
  'tls-sslv2': 'The client greets in the form of SSL 2, which names no host.',
  'tls-timeout': 'The TLS hello did not arrive in time.',
  'sni-missing': 'The TLS hello names no host, so nobody can tell whom it means; set `tls: off` in the rule if the client cannot say it.',
  'sni-malformed': 'The host name in the TLS hello is none.',
  'sni-several': 'The TLS hello names several hosts, of which servers could take either.',
  'sni-mismatch': 'The TLS hello asks for another host than the name that was looked up: another site behind the same address.',
  'ech-refused': 'The TLS hello is encrypted in part (ECH, or a browser\'s dummy of it), so it may ask for another host; set `ech: true` in the rule to accept that.',
  'http-no-host': 'The HTTP request names no host.',
  'http-host-several': 'The HTTP request names several hosts, of which servers could take either.',
  'http-host-other': 'The HTTP request asks for another host than the name that was looked up: another site behind the same address.',
  'http-malformed': 'What came on the HTTP port is no HTTP request.',
  'http-head-too-large': 'The head of the HTTP request is larger than any client makes it.',
  'http-upgrade': 'The HTTP request asks to speak another protocol, in which further requests could not be seen.',
  'http-connect': 'The HTTP request asks for a tunnel to somewhere else.',
  'http-body-ambiguous': 'The length of the HTTP request can be read in two ways, so that another request could hide in it.',
  'http-timeout': 'The head of the HTTP request did not arrive in time.',

  // names at connect time, and the connection
  'resolve-failed': 'The host\'s resolver could not answer for the name.',
  'resolve-timeout': 'The host\'s resolver did not answer in time.',
  'resolve-empty': 'The name exists in the policy and has no address in the DNS; a filter such as Pi-hole may hide it.',
  'connect-refused': 'The other side refused the connection: nothing listens on that port.',
  'connect-timeout': 'The other side did not answer; a firewall may drop it.',
  'connect-failed': 'The network of the host could not reach the address.',

  // bounds
  'too-many-connections': 'The plugin has as many connections open as it may; more wait until one ends.',
  'too-many-queries': 'The plugin asks for names faster than anything honest does.',
  'too-many-streams': 'The plugin has as many TCP connections to its resolver open as it may; one more is reset.',
  'too-many-resolves': 'The plugin has as many names being resolved as it may.',
  'names-exhausted': 'The plugin asked for more names in one run than there are addresses to stand for them.',
  'budget-spent': 'The bytes of `EgressMax` for today are spent; the door opens again at midnight UTC.',
  'unread': 'What was sent waited in the memory of this host, because whoever it was for did not read it, and that memory ran short; of all plugins this one had most such connections.',
  'idle': 'Nothing was sent either way for too long.',

  // the state of the door
  'plugin-left': 'The plugin closed the connection before anything was sent to the other side.',
  'not-recorded': 'The record of the connection could not be written, and what is not on record is not let out.',
  'query-refused': 'The DNS message is no plain question for one name.',
  'loopback-reset': 'It dialled its own loopback on a port where only the door listens.',
  'quarantined': 'The plugin is in quarantine: its door is shut.',
  'policy-changed': 'The policy was changed while the connection was open and no longer allows it.',
  'stopping': 'The plugin is being stopped.',
  'door-ended': 'The door itself ended, and the connection with it; how many bytes had passed by then is not known.',
  'daemon-ended': 'The daemon was killed, or the machine was, and the connection ended with it; how many bytes had passed by then is not known.',
  'tripwire': 'It touched a decoy that nothing honest knows of. Treat the plugin as hostile.',
} as const satisfies Readonly<Record<string, string>>

export type ReasonCode = keyof typeof REASONS
