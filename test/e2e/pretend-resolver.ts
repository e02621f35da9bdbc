import { createSocket } from 'node:dgram'
import { decode, encode, type Answer } from 'dns-packet'

/** RD and RA, as a resolver that asks others says it. */
const FLAGS = 0x180

/**
 * A resolver on an address, of which a test says what it knows.
 * @param say told each question, and `ready` when it serves
 */
export function serveNames(address: string, say: (what: string, detail: string) => void, know: (type: string, name: string) => Answer[]): void {
  const resolver = createSocket('udp4')
  resolver.on('message', (message, from) => {
    const query = decode(message)
    const { type = 'A', name = '' } = query.questions?.[0] ?? {}
    say('dns', `${type} ${name}`)
    resolver.send(encode({ type: 'response', id: query.id ?? 0, flags: FLAGS, questions: query.questions ?? [], answers: know(type, name) }), from.port, from.address)
  })
  resolver.bind(53, address, () => say('ready', ''))
}
