import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import * as z from 'zod'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { printable } from '../base/printable.ts'

/** Texts are printable. */
const QUARANTINE = z.strictObject({
  /** RFC 3339. */
  since: z.iso.datetime(),
  who: z.string().max(200),
  reason: z.string().max(500),
})
export type Quarantine = z.infer<typeof QUARANTINE>

/** Files kept ready: written in place and renamed, they need no room on a disk that is full, which is when a plugin may have to be shut in. */
const SPARES = 4
const SPARE_BYTES = 4096
const RETRY_MS = 1000

/** Which plugins are in quarantine: one root-only file each, seen with ls, that outlives daemon and boot. In force from `put` on, on disk or not. */
export interface Quarantines {
  of(plugin: PluginName): Quarantine | null
  names(): PluginName[]
  isDurable(plugin: PluginName): boolean
  /** @returns resolves once it is durable: tried again each second where the disk does not take it */
  put(plugin: PluginName, quarantine: Quarantine): Promise<void>
  /** @throws when the file cannot be taken away; then nothing changed */
  remove(plugin: PluginName): Promise<void>
  /** Ends the tries. */
  close(): void
}

/** As `status`, `list` and `why` show it; the reason first, since `list` has one line for it. */
export function quarantineText({ since, who, reason }: Quarantine): string {
  return `${reason}; by ${who} since ${since}`
}

export function openQuarantines(stateDir: string, log: (message: string) => void): Quarantines {
  const dir = `${stateDir}/quarantine`
  mkdirSync(dir, { recursive: true, mode: 0o700 })
  const all = new Map<PluginName, Quarantine>()
  for (const name of readdirSync(dir)) if (isPluginName(name)) all.set(name, readOne(`${dir}/${name}`, log))
  const durable = new Set(all.keys())
  let closed = false
  /** One write after another, or two would take the same spare. */
  let turn: Promise<unknown> = Promise.resolve()
  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const done = turn.then(work)
    turn = done.catch(() => {}) // its caller hears of it
    return done
  }
  void inTurn(() => fillSpares(dir)).catch((error: unknown) => log(`${dir}: no spare files: ${String(error)}`))

  return {
    of: (plugin) => all.get(plugin) ?? null,
    names: () => [...all.keys()],
    isDurable: (plugin) => durable.has(plugin),
    async put(plugin, quarantine) {
      all.set(plugin, quarantine)
      for (let told = false; !closed && all.get(plugin) === quarantine; told = true) {
        try {
          await inTurn(async () => {
            if (all.get(plugin) !== quarantine) return // it was released meanwhile
            await writeOne(dir, plugin, quarantine)
            durable.add(plugin)
          })
          void inTurn(() => fillSpares(dir)).catch(() => {}) // with the next quarantine, or the next start
          return
        } catch (error) {
          if (!told) log(`${plugin}: its quarantine is in force and not on disk yet: ${String(error)}`)
          await new Promise((resolve) => setTimeout(resolve, RETRY_MS).unref())
        }
      }
    },
    async remove(plugin) {
      await inTurn(async () => {
        await rm(`${dir}/${plugin}`, { force: true })
        await syncDirectory(dir)
        all.delete(plugin)
        durable.delete(plugin)
      })
    },
    close: () => { closed = true },
  }
}

/** What does not read as expected holds the plugin all the same. */
function readOne(path: string, log: (message: string) => void): Quarantine {
  try {
    return QUARANTINE.parse(JSON.parse(readFileSync(path, 'utf8')))
  } catch (error) {
    log(`${path} does not read as expected; the plugin stays in quarantine: ${printable(String(error), 300)}`)
    return { since: new Date().toISOString(), who: 'an unknown hand', reason: `${path} cannot be read` }
  }
}

async function writeOne(dir: string, plugin: PluginName, quarantine: Quarantine): Promise<void> {
  const [spare] = spares(dir)
  const path = `${dir}/${spare ?? `.new-${plugin}`}`
  await writeWhole(path, JSON.stringify(quarantine), spare === undefined ? 'w' : 'r+')
  await rename(path, `${dir}/${plugin}`)
  await syncDirectory(dir)
}

async function fillSpares(dir: string): Promise<void> {
  for (let n = 0; n < SPARES; n++) {
    const path = `${dir}/.spare-${n}`
    if (existsSync(path)) continue
    try {
      await writeWhole(path, '', 'wx')
    } catch (error) {
      await rm(path, { force: true }) // half a spare has no room either
      throw error
    }
  }
}

function spares(dir: string): string[] {
  return readdirSync(dir).filter((name) => /^\.spare-\d$/.test(name)).sort()
}

/** Padded, so that it is written over the blocks that are there. */
async function writeWhole(path: string, text: string, flags: 'w' | 'wx' | 'r+'): Promise<void> {
  const file = await open(path, flags, 0o600)
  try {
    await file.writeFile(text.padEnd(SPARE_BYTES))
    await file.datasync()
  } finally {
    await file.close()
  }
}

async function syncDirectory(dir: string): Promise<void> {
  const file = await open(dir)
  try {
    await file.sync()
  } finally {
    await file.close()
  }
}
