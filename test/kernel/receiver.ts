import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

// Listens on TCP and UDP and looks at every packet of every interface of its namespace (packet(7)); one word per thing received.
const PROGRAM = `
import selectors, socket, sys
def listeners(port):
    for family, any in ((socket.AF_INET, '0.0.0.0'), (socket.AF_INET6, '::')):
        for kind, word in ((socket.SOCK_STREAM, 'connection'), (socket.SOCK_DGRAM, 'datagram')):
            s = socket.socket(family, kind)
            if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            s.bind((any, port))
            port = s.getsockname()[1]
            if kind == socket.SOCK_STREAM: s.listen(64)
            yield s, word
for tries in range(100):
    try: all = list(listeners(int(sys.argv[1])))
    except OSError: continue # one of the four has that port already
    break
wait = selectors.DefaultSelector()
for s, word in all: wait.register(s, selectors.EVENT_READ, word)
port = all[0][0].getsockname()[1]
wire = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
wait.register(wire, selectors.EVENT_READ, 'packet')
wait.register(sys.stdin.buffer.raw, selectors.EVENT_READ, 'mark')
print(port, flush=True)
while True:
    ready = [key for key, _ in wait.select()]
    for key in ready:
        if key.data == 'mark':
            if len(ready) > 1: continue # first what came before
            if not key.fileobj.read(1): sys.exit()
            print('mark', flush=True)
        elif key.data == 'connection':
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
  #marks = 0
  #marked = 0
  readonly #child: ChildProcess
  readonly pid: number
  readonly port: number

  private constructor(child: ChildProcess, port: number) {
    this.#child = child
    this.port = port
    this.pid = child.pid ?? 0
  }

  /** @param port 0: any @param namespace command words that enter another network namespace; empty: the host's */
  static async start(port = 0, namespace: readonly string[] = []): Promise<Receiver> {
    const [file = '', ...args] = [...namespace, '/usr/bin/python3', '-c', PROGRAM, String(port)]
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    const lines = createInterface({ input: child.stdout })
    const [first] = (await once(lines, 'line')) as [string]
    const receiver = new Receiver(child, Number(first))
    lines.on('line', (word) => {
      if (word === 'mark') receiver.#marked += 1
      else receiver.#seen.push(word)
    })
    return receiver
  }

  /** Kinds of what came since the last call; waits a moment for what is on its way, and until all that came has been looked at. */
  async received(): Promise<string[]> {
    await sleep(200)
    this.#child.stdin?.write('m')
    this.#marks += 1
    while (this.#marked < this.#marks) {
      if (this.#child.exitCode !== null) throw new Error(`the receiver ended with ${this.#child.exitCode}`)
      await sleep(5)
    }
    return [...new Set(this.#seen.splice(0))].sort()
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGKILL')
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
  }
}
