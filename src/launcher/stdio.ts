import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { Socket } from 'node:net'

/** Our ends of three FIFOs; the program's are opened by the process that becomes its runtime. */
export interface Stdio {
  readonly stdin: Socket
  readonly stdout: Socket
  readonly stderr: Socket
  /** `dev:inode` of each, for attestation. */
  readonly identity: readonly string[]
  /** The program's ends are open, or never will be: ours of the same kind must go, or we would never see the end of a stream. */
  letGo(): void
}

/**
 * Open our ends of three FIFOs that were made in a directory of ours. FIFOs, because a socket as stdout makes /dev/stdout fail with ENXIO,
 * and because nothing of a caller's own descriptors or terminal may enter.
 * @param dir holds `stdin`, `stdout`, `stderr`
 */
export function openStdio(dir: string): Stdio {
  const { O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK } = constants
  // Until the program's ends are open: without a reader ours of stdin could not be opened, and without a writer a first look at the
  // others would find their end. The program's own open in the ordinary way (its stdin must block, or `read` in the gate fails).
  const held = [openSync(`${dir}/stdin`, O_RDWR)]
  const ourIn = openSync(`${dir}/stdin`, O_WRONLY | O_NONBLOCK)
  const [ourOut, ourErr] = [readEnd('stdout'), readEnd('stderr')]
  return {
    stdin: new Socket({ fd: ourIn, readable: false, writable: true }),
    stdout: new Socket({ fd: ourOut, readable: true, writable: false }),
    stderr: new Socket({ fd: ourErr, readable: true, writable: false }),
    identity: [ourIn, ourOut, ourErr].map((fd) => {
      const { dev, ino } = fstatSync(fd, { bigint: true })
      return `${dev}:${ino}`
    }),
    letGo: () => {
      for (const fd of held.splice(0)) closeSync(fd)
    },
  }

  function readEnd(name: string): number {
    const ours = openSync(`${dir}/${name}`, O_RDONLY | O_NONBLOCK)
    held.push(openSync(`${dir}/${name}`, O_WRONLY))
    return ours
  }
}
