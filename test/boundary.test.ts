import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { isBuiltin } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { build } from 'esbuild'
import { beforeAll, describe, expect, test } from 'vitest'

/**
 * Which way imports point, and what a process must never contain. A wall between two programs is worth little if the
 * privileged one carries the parser of hostile bytes in its bundle. Each line says why.
 */
interface Ban {
  /** A package, a builtin, or a file below the repository. */
  readonly what: RegExp
  readonly reason: string
  /** Modules that may all the same, and why that is safe. */
  readonly except?: { readonly from: RegExp; readonly reason: string }
}

const HOSTILE_BYTES: readonly Ban[] = [
  { what: /^fastify$|^@fastify\/|^node_modules\/(?:fastify|@fastify)\//, reason: 'an HTTP server parses what strangers write; root must not' },
  { what: /^undici$|^node_modules\/undici\//, reason: 'an HTTP client parses what plugins answer; root must not' },
  { what: /^ws$|^node_modules\/ws\//, reason: 'WebSocket frames come from plugins; root must not read them' },
  { what: /^(?:node:)?https?2?$/, reason: 'the same parsers, built in' },
  { what: /^src\/(?:proxy|channel|console|access|gateway)\//, reason: 'these read what browsers, plugins and networks write' },
  { what: /^src\/registry\//, reason: 'it is the gateway\'s view of the plugins, made of what they said' },
  { what: /^src\/handshake\//, reason: 'it parses the plugin\'s own words' },
]

const EGRESS: Ban = { what: /^src\/egress\//, reason: 'it reads what plugins and networks write' }
/** Decisions on what is parsed already: rules, records and addresses in, verdicts and text out. A rule below keeps them pure. */
const DECIDING = String.raw`src\/egress\/(?:addresses|reasons|record|replay|rules|suggest)\.ts$`
const EGRESS_BYTES: Ban = { what: new RegExp(`^(?!${DECIDING})src\\/egress\\/`), reason: `${EGRESS.reason}; only what decides on records may be run again in a terminal` }

const DNS: Ban = { what: /^dns-packet$|^node_modules\/dns-packet\//, reason: 'DNS messages come from plugins; root must not parse them' }

const HISTORY: Ban = { what: /^(?:node:)?sqlite$|^src\/(?:history|report)\//, reason: 'reading the log is done in a terminal; what is searched holds what plugins wrote' }

const SHELLS: Ban = { what: /^systeminformation$|^node_modules\/systeminformation\//, reason: 'it runs shell commands; only the unprivileged figures child may' }

/** The programs of deploy/build.mjs, and what they must not reach, through packages too. */
const PROGRAMS: Readonly<Record<string, readonly Ban[]>> = {
  'src/launcher.ts': [...HOSTILE_BYTES, EGRESS, DNS, SHELLS, HISTORY],
  'src/cli.ts': [...HOSTILE_BYTES, EGRESS_BYTES, DNS, SHELLS],
  'src/gateway.ts': [
    { what: /^(?:node:)?(?:child_process|cluster)$/, reason: 'the gateway reads hostile bytes; it starts no programs' },
    {
      what: /^(?:node:)?worker_threads$/, reason: 'our code needs no threads there',
      except: {
        from: /^node_modules\/(?:pino|thread-stream|undici)\//,
        reason: 'fastify brings a logger that could use a thread and is switched off; undici asks only whether an object may be cloned; a thread stays behind the same walls',
      },
    },
    { what: /^(?:node:)?(?:inspector|repl|vm|wasi)(?:\/|$)/, reason: 'ways to run text as code' },
    { what: /^execa$|^node_modules\/execa\//, reason: 'it starts programs' },
    { what: /^systeminformation$|^node_modules\/systeminformation\//, reason: 'it runs shell commands' },
    { what: /^src\/(?:launcher|launcher\.ts$)/, reason: 'privileged effects live in the other process' },
    { what: /^src\/plan\//, reason: 'the gateway names a plugin; it cannot describe a sandbox' },
    { what: /^src\/audit\//, reason: 'the gateway asks for a record; it cannot write or seal one' },
    { what: /^src\/policy\/(?!policy\.ts$)/, reason: 'policies are compiled by the launcher alone' },
  ],
  'src/door.ts': [
    { what: /^(?:node:)?(?:child_process|cluster|worker_threads)$/, reason: 'the door reads hostile bytes and dials out; it starts nothing' },
    { what: /^(?:node:)?(?:fs|fs\/promises)$/, reason: 'the door has no files' },
    { what: /^(?:node:)?(?:https?2?|tls)$/, reason: 'bytes are looked at and passed on unchanged; nothing there ends TLS or speaks HTTP itself' },
    { what: /^(?:node:)?(?:inspector|repl|vm|wasi)(?:\/|$)/, reason: 'ways to run text as code' },
    { what: /^src\/(?:launcher|launcher\.ts$|plan|policy|audit|cli)(?:\/|$)/, reason: 'it is told rules and asks for records; it can compile, start and seal nothing' },
    { what: /^src\/(?:gateway|proxy|channel|registry|handshake|access)\//, reason: 'two unprivileged processes, so that one hole is not both' },
    { what: /^node_modules\/(?!(?:dns-packet|@leichtgewicht\/ip-codec|zod)\/)/, reason: 'DNS messages and schemas; whatever else comes in is read first' },
  ],
  'src/export.ts': [
    { what: /^(?:node:)?(?:child_process|cluster|worker_threads|fs|fs\/promises)$/, reason: 'it speaks to a server somewhere; it has no files and starts nothing' },
    { what: /^(?:node:)?(?:https?2?)$/, reason: 'it sends lines; nothing that comes back is read' },
    { what: /^(?:node:)?(?:inspector|repl|vm|wasi)(?:\/|$)/, reason: 'ways to run text as code' },
    { what: /^src\/(?!export\/|export\.ts$|history\/fields\.ts$)/, reason: 'a line of the log and where it goes: it needs no more of ours' },
    { what: /^node_modules\/(?!zod\/)/, reason: 'the schema of its order' },
  ],
  'src/launcher/push-child.ts': [
    { what: /^src\/(?!launcher\/push-child\.ts$|audit\/verify\/|base\/)|^node_modules\//, reason: 'it reads what a witness answers; only what checks signatures is there' },
    { what: /^(?:node:)?(?:child_process|cluster|worker_threads|vm|inspector|repl)$/, reason: 'it reads hostile bytes; it starts nothing' },
  ],
  'src/witness.ts': [
    { what: /^src\/(?!witness\.ts$|witness\/|audit\/verify\/|base\/)|^node_modules\//, reason: 'it reads what strangers send; only what checks signatures is there' },
    { what: /^(?:node:)?(?:child_process|cluster|worker_threads|vm|inspector|repl)$/, reason: 'it reads hostile bytes; it starts nothing' },
  ],
  'src/launcher/figures-child.ts': [
    { what: /^src\/(?!launcher\/figures-child\.ts$)/, reason: 'it runs shell commands; nothing of ours may lie in their reach' },
    { what: /^node_modules\/(?!systeminformation\/)/, reason: 'one package is enough to read figures' },
  ],
  'src/launcher/door-helper.ts': [
    { what: /^src\/(?!launcher\/door-helper\.ts$)|^node_modules\//, reason: 'it opens the listeners inside a sealed namespace and ends' },
    { what: /^(?:node:)?(?:child_process|cluster|fs|fs\/promises)$/, reason: 'it needs neither programs nor files' },
  ],
  'src/launcher/listen-helper.ts': [
    { what: /^src\/(?!launcher\/listen-helper\.ts$)|^node_modules\//, reason: 'it opens one socket and ends' },
    { what: /^(?:node:)?(?:child_process|cluster|fs|fs\/promises)$/, reason: 'it needs neither programs nor files' },
  ],
}

interface Folder {
  /** Folders, or single files, that it may import besides `base` and errors.ts; types count too. */
  readonly imports: readonly string[]
  readonly packages: readonly string[]
  readonly reason: string
}

/** The index of undici loads much that nobody here uses (src/proxy/undici.ts); the folders that name it alone want its types. */
const UNDICI_PARTS = ['api/index', 'dispatcher/client', 'dispatcher/dispatcher', 'dispatcher/pool'].map((part) => `undici/lib/${part}.js`)

const FOLDERS: Readonly<Record<string, Folder>> = {
  base: { imports: [], packages: [], reason: 'shared by all, so it depends on nobody' },
  policy: { imports: [], packages: ['yaml', 'zod'], reason: 'YAML text to a frozen Policy; nothing else decides what it says' },
  wire: { imports: [], packages: ['zod'], reason: 'what crosses the boundary is the same on both sides' },
  handshake: { imports: [], packages: ['undici', 'zod'], reason: 'hostile bytes to fields, with nothing in reach' },
  access: { imports: [], packages: [], reason: 'who is asking; decided before anything that could be asked for' },
  plan: { imports: ['policy'], packages: [], reason: 'a pure compiler: policy and host facts in, plan out' },
  audit: { imports: ['wire/events.ts', 'wire/door.ts'], packages: ['zod'], reason: 'append-only evidence must not depend on what it is about' },
  history: { imports: ['audit/segments.ts'], packages: [], reason: 'finds again what the log says; it must work where nothing else does' },
  report: { imports: ['history', 'audit/catalogue.ts', 'audit/record.ts', 'plan/explain.ts', 'policy/policy.ts'], packages: [], reason: 'a page made of what the log says; it starts, asks and changes nothing' },
  export: { imports: ['history/fields.ts'], packages: ['zod'], reason: 'lines of the log to somewhere else, from a process that has nothing to lose' },
  launcher: { imports: ['plan', 'policy', 'audit', 'wire'], packages: ['execa', 'systeminformation', 'zod'], reason: 'privileged effects, small enough to read in one sitting' },
  witness: { imports: ['audit/verify'], packages: [], reason: 'a server on another machine that knows checkpoints and nothing else of Cordon' },
  registry: { imports: ['handshake', 'wire'], packages: ['undici'], reason: 'the one place that knows what runs' },
  proxy: { imports: ['registry', 'access', 'handshake/manifest.ts', 'wire'], packages: ['fastify', 'undici', ...UNDICI_PARTS], reason: 'HTTP: who asks, which plugin, and the record of it' },
  channel: { imports: ['handshake/manifest.ts'], packages: ['ws', 'zod'], reason: 'WebSocket to one plugin; never through the HTTP side' },
  egress: { imports: ['wire'], packages: ['dns-packet'], reason: 'the door: decisions on names and addresses, and the bytes of DNS, TLS and HTTP' },
  gateway: { imports: ['registry', 'proxy', 'channel', 'handshake', 'wire'], packages: ['zod'], reason: 'only wires the unprivileged parts together' },
  cli: { imports: ['policy', 'plan', 'audit', 'history', 'report', 'wire', 'launcher', 'egress/addresses.ts', 'egress/record.ts', 'egress/replay.ts', 'egress/suggest.ts'], packages: ['execa', 'uqr', 'zod'], reason: 'the operator\'s commands; `cordon run` and `doctor` are the launcher without a daemon. Nothing of the gateway' },
}

/** Built-in modules that only some files may use. */
const BUILTINS: readonly { readonly what: RegExp; readonly within: RegExp; readonly allowed: RegExp; readonly reason: string }[] = [
  { what: /^node:/, within: /^src\/plan\//, allowed: /^$/, reason: 'the plan is pure: no disk, clock, environment or network' },
  { what: /^node:/, within: new RegExp(`^${DECIDING}|^src/egress/names\\.ts$`), allowed: /^$/, reason: 'decisions of the door are pure, so that a replay can make them again' },
  { what: /^node:fs|^node:child_process$/, within: /^src\/egress\//, allowed: /^$/, reason: 'the door has no files and starts nothing' },
  { what: /^node:fs/, within: /^src\/policy\//, allowed: /^src\/policy\/trusted-file\.ts$/, reason: 'one file of policy/ touches the disk, and it checks owner and mode' },
  { what: /^node:child_process$/, within: /^src\//, allowed: /^src\/(?:launcher|cli)(?:\/|\.ts$)/, reason: 'only the launcher and the operator\'s commands start programs' },
  { what: /^node:cluster$|^node:worker_threads$/, within: /^src\//, allowed: /^$/, reason: 'one program, one thread; both would open Node\'s IPC channel' },
  { what: /^node:fs/, within: /^src\/(?:channel|access|wire|base)\//, allowed: /^$/, reason: 'nothing there needs the disk' },
]

/** Pure modules that a rule above names a whole folder against, with what makes it harmless. */
const PURE_BUILTINS = /^node:(?:crypto|path)$/

const ROOT = join(import.meta.dirname, '..')
const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts')).map((name) => `src/${name}`).sort()

describe('each folder imports only what the table allows', () => {
  test('there are sources, and every folder that has some has a row with a reason', () => {
    expect(sources.length).toBeGreaterThan(30)
    const folders = new Set(sources.map((file) => file.split('/')).filter((parts) => parts.length > 2).map(([, folder]) => folder))
    expect([...folders].filter((folder) => folder === undefined || FOLDERS[folder] === undefined)).toEqual([])
    for (const { reason } of Object.values(FOLDERS)) expect(reason.length).toBeGreaterThan(20)
  })

  test.each(Object.keys(FOLDERS))('src/%s', (folder) => {
    const files = sources.filter((file) => file.startsWith(`src/${folder}/`))
    expect(files.length, `src/${folder} has no files; remove its row`).toBeGreaterThan(0)
    expect(files.flatMap((file) => importsOf(file).flatMap((target) => folderFault(folder, file, target)))).toEqual([])
    expect(staleIn(folder, files.flatMap(importsOf)), 'allowed, and imported by no source of the folder').toEqual([])
  })

  test('errors.ts imports nothing, and nothing imports a process file', () => {
    expect(importsOf('src/errors.ts')).toEqual([])
    const processes = new Set(Object.keys(PROGRAMS))
    expect(sources.flatMap((file) => importsOf(file).filter((target) => processes.has(target)).map((target) => `${file} imports ${target}`))).toEqual([])
  })

  test('built-in modules stay where they are allowed', () => {
    const faults = sources.flatMap((file) => importsOf(file).filter((target) => !PURE_BUILTINS.test(target)).flatMap((target) => BUILTINS
      .filter((rule) => rule.what.test(target) && rule.within.test(file) && !rule.allowed.test(file))
      .map((rule) => `${file} imports ${target}: ${rule.reason}`)))
    expect(faults).toEqual([])
  })

  test('no source reaches a module behind the back of this test', () => {
    const hidden = /\brequire\s*\(|\bcreateRequire\b|\bgetBuiltinModule\b|\bprocess\.binding\b|\bnew Function\b|\beval\s*\(|\bimport\s*\((?!\s*['"])/
    expect(sources.filter((file) => hidden.test(withoutComments(readFileSync(join(ROOT, file), 'utf8'))))).toEqual([])
  })
})

describe.each(Object.entries(PROGRAMS))('%s', (entry, bans) => {
  let graph: ReadonlyMap<string, readonly string[]> = new Map()
  beforeAll(async () => {
    if (!existsSync(join(ROOT, entry))) throw new Error(`${entry} is missing: nothing shows what that program contains. Was it renamed? Then rename it here.`)
    graph = await reach(entry)
  })

  test('is a program with a graph to judge', () => {
    expect([...graph.keys()]).toContain(entry)
    expect([...graph.values()].flat().length).toBeGreaterThan(0)
  })

  test.each(bans.map((ban) => [String(ban.what), ban] as const))('contains nothing of %s', (_title, ban) => {
    const faults = [...graph].flatMap(([from, targets]) => targets
      .filter((target) => ban.what.test(target) && ban.except?.from.test(from) !== true)
      .map((target) => `${from} imports ${target}: ${ban.reason}`))
    expect(faults).toEqual([])
  })
})

test('every program that is built is judged here', () => {
  const built = readFileSync(join(ROOT, 'deploy/build.mjs'), 'utf8').match(/'src\/[^']+\.ts'/g) ?? []
  expect(built.map((name) => name.slice(1, -1)).sort()).toEqual(Object.keys(PROGRAMS).sort())
})

describe('the rules themselves can fail', () => {
  test('the bans of the launcher hit the gateway, and the other way round', async () => {
    const gateway = [...await reach('src/gateway.ts')].flatMap(([, targets]) => targets)
    for (const ban of HOSTILE_BYTES.filter((one) => !/console/.test(String(one.what)))) expect(gateway.some((target) => ban.what.test(target)), String(ban.what)).toBe(true)
    const cli = [...await reach('src/cli.ts')].flatMap(([, targets]) => targets)
    expect(cli.some((target) => /^(?:node:)?child_process$/.test(target))).toBe(true)
    expect(cli.some((target) => /^src\/plan\//.test(target))).toBe(true)
    const figures = [...await reach('src/launcher/figures-child.ts')].flatMap(([, targets]) => targets)
    expect(figures.some((target) => SHELLS.what.test(target))).toBe(true)
  })

  test('the terminal may decide on records again, and may not read bytes of the door', () => {
    expect(['src/egress/replay.ts', 'src/egress/rules.ts', 'src/egress/names.ts', 'src/egress/dns.ts', 'src/egress/xreplay.ts'].map((file) => EGRESS_BYTES.what.test(file))).toEqual([false, false, true, true, true])
  })

  test('a type import, a re-export, an import for effect and a dynamic import are all seen', () => {
    const text = "import type { A } from './a.ts'\nimport {\n  b,\n} from '../b.ts'\nexport { c } from \"./c.ts\"\nimport './d.ts'\nconst e = await import('./e.ts')\n// import './f.ts'\n"
    expect(specifiers(text)).toEqual(['./a.ts', '../b.ts', './c.ts', './d.ts', './e.ts'])
    expect(folderFault('policy', 'src/policy/x.ts', 'src/plan/plan.ts')).toHaveLength(1)
    expect(folderFault('policy', 'src/policy/x.ts', 'execa')).toHaveLength(1)
    expect(folderFault('audit', 'src/audit/x.ts', 'src/wire/requests.ts')).toHaveLength(1)
    expect(folderFault('audit', 'src/audit/x.ts', 'src/wire/events.ts')).toEqual([])
  })

  test('what a row allows and nothing uses is found, a folder or a file or a package', () => {
    expect(staleIn('registry', ['src/wire/events.ts', 'src/wirex/a.ts'])).toEqual(['handshake', 'undici'])
    expect(staleIn('registry', ['src/wire/events.ts', 'src/handshake/session.ts', 'undici'])).toEqual([])
    expect(staleIn('export', ['src/history/fields.ts', 'zod'])).toEqual([])
  })
})

function folderFault(folder: string, file: string, target: string): string[] {
  const rule = FOLDERS[folder]
  if (rule === undefined) return [`src/${folder} has no row`]
  if (isBuiltin(target)) return target.startsWith('node:') ? [] : [`${file} imports ${target}; expected node:${target}`]
  if (!target.startsWith('src/')) return rule.packages.includes(target) ? [] : [`${file} imports the package ${target}: ${rule.reason}`]
  const inside = target.slice('src/'.length)
  const allowed = inside === 'errors.ts' || [folder, 'base', ...rule.imports].some((one) => inside === one || inside.startsWith(`${one}/`))
  return allowed ? [] : [`${file} imports ${target}: ${rule.reason}`]
}

/** @returns what the folder's row allows although none of its sources imports it: an allowance that nobody needs is taken up unnoticed */
function staleIn(folder: string, named: readonly string[]): string[] {
  const rule = FOLDERS[folder]
  if (rule === undefined) return []
  const used = (one: string): boolean => named.some((target) => target === `src/${one}` || target.startsWith(`src/${one}/`))
  return [...rule.imports.filter((one) => !used(one)), ...rule.packages.filter((one) => !named.includes(one))]
}

/** What a source names, types included: files below the repository, packages, builtins. */
function importsOf(file: string): string[] {
  return specifiers(readFileSync(join(ROOT, file), 'utf8')).map((name) => (name.startsWith('.') ? relative(ROOT, join(ROOT, dirname(file), name)) : name))
}

function specifiers(text: string): string[] {
  const pattern = /^[ \t]*(?:import|export)\b[^'"`]*?\bfrom\s*['"]([^'"]+)['"]|^[ \t]*import\s*['"]([^'"]+)['"]|\bimport\s*\(\s*['"]([^'"]+)['"]/gm
  return [...withoutComments(text).matchAll(pattern)].map((match) => match[1] ?? match[2] ?? match[3] ?? '')
}

function withoutComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, '').replaceAll(/(^|\s)\/\/.*$/gm, '$1')
}

/** Every module that the program's bundle is made from, with what it imports; types are gone here, packages are not. */
function reach(entry: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const known = graphs.get(entry) ?? bundle(entry)
  graphs.set(entry, known)
  return known
}

const graphs = new Map<string, Promise<ReadonlyMap<string, readonly string[]>>>()

async function bundle(entry: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const { metafile } = await build({
    absWorkingDir: ROOT, entryPoints: [entry], outdir: 'dist', write: false, bundle: true, metafile: true, platform: 'node', format: 'cjs', target: 'node24', logLevel: 'silent',
  })
  return new Map(Object.entries(metafile.inputs).map(([file, { imports }]) => [file, imports.map((one) => one.path)]))
}
