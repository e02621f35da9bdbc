import { closeSync, constants, fstatSync, openSync } from 'node:fs'
import { Socket } from 'node:net'

/** Three FIFOs: our ends as streams, the program's ends as descriptors to hand to the runtime. */
export interface Stdio {
  readonly stdin: Socket
  readonly stdout: Socket
  readonly stderr: Socket
  /** `dev:inode` of each, for attestation. */
  readonly identity: readonly string[]
  readonly childFds: readonly [number, number, number]
  /** After the runtime has them, our copies must go, or we would never see the end of the stream. */
  closeChildEnds(): void
}

/**
 * Open three FIFOs that were made in a directory of ours. FIFOs, because a socket as stdout makes /dev/stdout fail with ENXIO,
 * and because nothing of a caller's own descriptors or terminal may enter.
 * @param dir holds `stdin`, `stdout`, `stderr`
 */
export function openStdio(dir: string): Stdio {
  const { O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK } = constants
  // stdin: a writer must exist before the program's blocking read end opens; and its end must block, or `read` in the gate fails.
  const hold = openSync(`${dir}/stdin`, O_RDWR)
  const childIn = openSync(`${dir}/stdin`, O_RDONLY)
  const ourIn = openSync(`${dir}/stdin`, O_WRONLY | O_NONBLOCK)
  closeSync(hold)
  const [ourOut, childOut] = readEnd(`${dir}/stdout`)
  const [ourErr, childErr] = readEnd(`${dir}/stderr`)
  const childFds = [childIn, childOut, childErr] as const
  return {
    stdin: new Socket({ fd: ourIn, readable: false, writable: true }),
    stdout: new Socket({ fd: ourOut, readable: true, writable: false }),
    stderr: new Socket({ fd: ourErr, readable: true, writable: false }),
    identity: childFds.map((fd) => {
      const { dev, ino } = fstatSync(fd, { bigint: true })
      return `${dev}:${ino}`
    }),
    childFds,
    closeChildEnds: () => {
      for (const fd of childFds) closeSync(fd)
    },
  }

  function readEnd(path: string): [number, number] {
    const ours = openSync(path, O_RDONLY | O_NONBLOCK)
    return [ours, openSync(path, O_WRONLY)]
  }
}
