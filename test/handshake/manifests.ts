/** The smallest legal manifest; each test changes one thing. */
export const MINIMAL = { name: 'sample', version: '1.0.0' }

export function helloLine(manifest: object = MINIMAL, more: object = {}): Buffer {
  return Buffer.from(JSON.stringify({ type: 'hello', protocol_version: 2, manifest, ...more }))
}

export function manifestLine(manifest: object = MINIMAL): Buffer {
  return Buffer.from(JSON.stringify({ type: 'manifest', ...manifest }))
}

export function readyLine(more: object = {}): Buffer {
  return Buffer.from(JSON.stringify({ type: 'ready', ready: true, has_ui: false, protocol_version: 2, ...more }))
}
