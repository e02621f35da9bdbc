import { writeFileSync } from 'node:fs'

/** Write into a file until its disk takes no more, not even a small piece. */
export function fill(path: string): void {
  for (let size = 1 << 20; size >= 4096; size >>= 1) {
    for (;;) {
      try {
        writeFileSync(path, Buffer.alloc(size), { flag: 'a' })
      } catch {
        break // full for this size; a smaller piece may still fit
      }
    }
  }
}
