import { Socket } from 'node:net'
import { printable } from './base/printable.ts'
import { dial } from './egress/dial.ts'
import { DoorCore } from './egress/door-core.ts'
import { RELAY_LIMITS } from './egress/relay.ts'
import { CordonError } from './errors.ts'
import { DoorClient } from './wire/door-client.ts'

/**
 * Process 3, unprivileged: the only one that dials out. It starts with two descriptors: 3 is the framed socketpair to the launcher, 4
 * (NODE_CHANNEL_FD) the one over which a helper hands over the listening sockets of each plugin's sealed namespace. It holds nothing that
 * must be saved: on any unexpected error it leaves, every connection ends with it, and the launcher starts it again.
 */
const LAUNCHER_FD = 3

function main(): void {
  const client = new DoorClient(new Socket({ fd: LAUNCHER_FD, readable: true, writable: true }), {
    order: (order) => core.order(order),
    closed: (error) => leave(error.code === 'WIRE_CLOSED' ? 0 : 70, error),
  })
  const core = new DoorCore({
    say: (message) => client.say(message),
    note: (event) => {
      try {
        client.note(event)
      } catch (error) {
        // What does not fit the table is our defect; ending every plugin's connections for it would let one of them cause that.
        complain(error)
      }
    },
    record: (event) => client.record(event),
    dial,
    now: Date.now,
    ticks: () => performance.now(),
    relayLimits: RELAY_LIMITS,
    leave: () => {
      client.flush()
      process.exit(0)
    },
  })
  const broken = (error: unknown): never => {
    client.flush()
    leave(70, error)
  }
  process.on('uncaughtException', broken)
  process.on('unhandledRejection', broken)
  process.on('message', (message: unknown, handle: unknown) => {
    const run = core.handedOver(message, handle)
    if (run !== null) process.send?.({ taken: run }) // the helper holds the sockets until then
  })
}

function complain(error: unknown): void {
  const text = error instanceof CordonError ? `${error.code} ${error.message}` : error instanceof Error ? (error.stack ?? error.message) : String(error)
  process.stderr.write(`cordon-door: ${printable(text, 2000)}\n`)
}

function leave(status: number, error: unknown): never {
  complain(error)
  process.exit(status)
}

main()
