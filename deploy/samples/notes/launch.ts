import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

const KNOWN_FLAGS = ['--socket-path', '--data-dir', '--host-api-url']

/**
 * Flag and value pairs and nothing else: a host of the other generation, with its --auth-secret, is told so at once.
 * @throws Error naming the flag
 */
export function parseArguments(argv: readonly string[]): { socketPath: string; dataDir: string } {
  const values = new Map<string, string>()
  for (let i = 0; i < argv.length; i += 2) {
    const [flag = '', value] = argv.slice(i, i + 2)
    if (!KNOWN_FLAGS.includes(flag)) throw new Error(`unknown argument ${flag}; expected ${KNOWN_FLAGS.join(', ')}`)
    if (value === undefined) throw new Error(`${flag} has no value`)
    values.set(flag, value)
  }
  const socketPath = values.get('--socket-path')
  const dataDir = values.get('--data-dir')
  if (socketPath === undefined || dataDir === undefined) throw new Error('--socket-path and --data-dir are required')
  return { socketPath, dataDir }
}

/** stdout belongs to the handshake; everything else goes to stderr. */
export function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}

/** The one private line from the host. This plugin asked for no database and no host data, so both must be null. */
export async function readLaunchConfig(input: Readable): Promise<{ secret: string }> {
  for await (const line of createInterface({ input })) {
    const config = JSON.parse(line) as Record<string, unknown>
    if (config['protocol_version'] !== 2) throw new Error('launch config: protocol_version is not 2')
    if (config['database_url'] !== null || config['host_data_dir'] !== null) throw new Error('launch config: expected null for what was not asked for')
    const secret = config['auth_secret']
    if (typeof secret !== 'string' || secret.trim() === '') throw new Error('launch config: auth_secret is missing')
    return { secret }
  }
  throw new Error('stdin ended before the launch config')
}
