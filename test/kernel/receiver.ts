import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

// Listens on TCP and UDP and looks at every packet of every interface of its namespace (packet(7)); one word per thing received.
const PROGRAM = `
import selectors, socket, sys
port = int(sys.argv[1])
wait = selectors.DefaultSelector()
for family, any in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
    for kind, word in ((socket.SOCK_STREAM, 'connection'), (socket.SOCK_DGRAM, 'datagram')):
        s = socket.socket(family, kind)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((any, port))
        if kind == socket.SOCK_STREAM: s.listen(64)
        wait.register(s, selectors.EVENT_READ, word)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
wait.register(wire, selectors.EVENT_READ, 'packet')
print('ready', flush=True)
while True:
    for key, _ in wait.select():
        if key.data == 'connection':
            key.fileobj.accept()[0].sendall(b'hello')
            print('connection', flush=True)
        elif key.data == 'datagram':
            data, peer = key.fileobj.recvfrom(65536)
            key.fileobj.sendto(b'hello', peer)
            print('datagram', flush=True)
        else:
            data = wire.recv(65536)
            at = 40 if data[:1] and data[0] >> 4 == 6 else (data[0] & 15) * 4 if data else 0 # IPv6 and IPv4 headers
            if int.from_bytes(data[at + 2:at + 4], 'big') == port: print('packet', flush=True)
`

/** Somebody on the other side: what he has not received was not sent. */
export class Receiver {
  readonly #seen: string[] = []
  readonly #child: ChildProcess
  readonly pid: number

  private constructor(child: ChildProcess) {
    this.#child = child
    this.pid = child.pid ?? 0
  }

  /** @param namespace command words that enter another network namespace; empty: the host's */
  static async start(port: number, namespace: readonly string[] = []): Promise<Receiver> {
    const [file = '', ...args] = [...namespace, '/usr/bin/python3', '-c', PROGRAM, String(port)]
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] })
    const receiver = new Receiver(child)
    if (child.stdout === null) throw new Error('no stdout')
    const lines = createInterface({ input: child.stdout })
    await once(lines, 'line')
    lines.on('line', (word) => receiver.#seen.push(word))
    return receiver
  }

  /** Kinds of what came since the last call; waits a moment for what is on its way. */
  async received(): Promise<string[]> {
    await new Promise((next) => setTimeout(next, 200))
    return [...new Set(this.#seen.splice(0))].sort()
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGKILL')
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
  }
}
