/**
 * Reads a QR code as a telephone does, from what is shown: ISO/IEC 18004, versions 1 to 5 with level L, which have one block. Nothing of it
 * comes from the encoder. Errors are found (the Reed-Solomon syndromes) and not mended.
 * @param lines two rows of modules each, in half blocks
 */
export function decodeQr(lines: readonly string[], quiet: number): string {
  const rows = lines.flatMap((line) => [[...line].map((c) => c === '▀' || c === '█'), [...line].map((c) => c === '▄' || c === '█')])
  const size = (rows[0]?.length ?? 0) - 2 * quiet
  const border = rows.flatMap((row, y) => row.filter((_, x) => x < quiet || y < quiet || x >= size + quiet || y >= size + quiet))
  if (border.includes(true)) throw new Error('the quiet zone is not light')
  const dark = (x: number, y: number): boolean => rows[y + quiet]?.[x + quiet] === true
  const version = (size - 17) / 4
  const ecBytes = [0, 7, 10, 15, 20, 26][version]
  if (ecBytes === undefined) throw new Error(`${size} modules wide`)
  for (const [x, y] of [[0, 0], [size - 7, 0], [0, size - 7]] as const) requireFinder(dark, x, y)

  // Format: 15 bits around the upper left finder, level and mask behind a fixed pattern.
  const places = [...[0, 1, 2, 3, 4, 5, 7, 8].map((x) => [x, 8]), ...[7, 5, 4, 3, 2, 1, 0].map((y) => [8, y])]
  const format = places.reduce((bits, [x = 0, y = 0]) => bits * 2 + (dark(x, y) ? 1 : 0), 0) ^ 0b101010000010010
  if (bch(format) !== 0) throw new Error('the format bits hold an error')
  if (format >> 13 !== 0b01) throw new Error('another level than L')
  const masked = MASKS[(format >> 10) & 7]

  const bits: number[] = []
  for (let right = size - 1, up = true; right > 0; right -= 2, up = !up) {
    if (right === 6) right -= 1
    for (let step = 0; step < size; step++) {
      const y = up ? size - 1 - step : step
      for (const x of [right, right - 1]) if (!isFunction(x, y, size, version)) bits.push(dark(x, y) !== (masked?.(x, y) === true) ? 1 : 0)
    }
  }
  const words = Array.from({ length: Math.floor(bits.length / 8) }, (_, i) => Number.parseInt(bits.slice(i * 8, i * 8 + 8).join(''), 2))
  for (let power = 0; power < ecBytes; power++) if (words.reduce((sum, word) => times(sum, EXP[power] ?? 0) ^ word, 0) !== 0) throw new Error('a module is wrong')
  const data = words.slice(0, -ecBytes).map((word) => word.toString(2).padStart(8, '0')).join('')
  if (data.slice(0, 4) !== '0100') throw new Error('not in byte mode')
  const length = Number.parseInt(data.slice(4, 12), 2)
  return Buffer.from(Array.from({ length }, (_, i) => Number.parseInt(data.slice(12 + i * 8, 20 + i * 8), 2))).toString('utf8')
}

function requireFinder(dark: (x: number, y: number) => boolean, left: number, top: number): void {
  for (let y = 0; y < 7; y++) for (let x = 0; x < 7; x++) {
    const ring = Math.max(Math.abs(x - 3), Math.abs(y - 3))
    if (dark(left + x, top + y) !== (ring !== 2)) throw new Error(`no finder at ${left},${top}`)
  }
}

function isFunction(x: number, y: number, size: number, version: number): boolean {
  const finder = (x < 9 && y < 9) || (x >= size - 8 && y < 9) || (x < 9 && y >= size - 8)
  const middle = size - 7 // of the one alignment pattern of versions 2 to 6
  return finder || x === 6 || y === 6 || (version > 1 && Math.abs(x - middle) <= 2 && Math.abs(y - middle) <= 2)
}

const MASKS: readonly ((x: number, y: number) => boolean)[] = [
  (x, y) => (x + y) % 2 === 0, (_, y) => y % 2 === 0, (x) => x % 3 === 0, (x, y) => (x + y) % 3 === 0,
  (x, y) => (Math.floor(y / 2) + Math.floor(x / 3)) % 2 === 0, (x, y) => ((x * y) % 2) + ((x * y) % 3) === 0,
  (x, y) => (((x * y) % 2) + ((x * y) % 3)) % 2 === 0, (x, y) => (((x + y) % 2) + ((x * y) % 3)) % 2 === 0,
]

function bch(format: number): number {
  let rest = format
  for (let bit = 14; bit >= 10; bit--) if ((rest >> bit) & 1) rest ^= 0b10100110111 << (bit - 10)
  return rest
}

/** GF(256) modulo x^8 + x^4 + x^3 + x^2 + 1. */
const EXP = Array.from({ length: 255 }, () => 1)
for (let i = 1; i < 255; i++) EXP[i] = ((EXP[i - 1] ?? 0) * 2) ^ ((EXP[i - 1] ?? 0) >= 128 ? 0x11d : 0)

function times(a: number, b: number): number {
  return a === 0 || b === 0 ? 0 : (EXP[(EXP.indexOf(a) + EXP.indexOf(b)) % 255] ?? 0)
}
