import { encode } from 'uqr'

/** ISO/IEC 18004 section 6.3.8: so many light modules all around, or a reader does not find it. */
const QUIET = 4
const BLOCKS = [' ', '▄', '▀', '█'] as const
/** Black on white, whatever the terminal's own colours are. */
const [INK, PLAIN] = ['\u001b[30;107m', '\u001b[0m']

/**
 * Text as a QR code, two rows of it in one line: 37 columns and 19 lines for a fingerprint.
 * @param color without it dark modules are ink, as on paper; on a dark terminal that is a negative, which not every reader takes
 */
export function qrLines(text: string, color: boolean): string[] {
  const { data } = encode(text, { ecc: 'L', boostEcc: false, border: QUIET })
  return data.flatMap((upper, row) => {
    if (row % 2 === 1) return []
    const lower = data[row + 1]
    const blocks = upper.map((dark, column) => BLOCKS[(dark ? 2 : 0) + (lower?.[column] === true ? 1 : 0)]).join('')
    return [color ? `${INK}${blocks}${PLAIN}` : blocks]
  })
}
