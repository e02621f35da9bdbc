// One file per process: the gateway is mounted into its own walls as a single read-only file,
// so its user can read it wherever the checkout lies, and every process starts without a module search.
import { build } from 'esbuild'
import { chmod, rm } from 'node:fs/promises'

await rm('dist', { recursive: true, force: true })
await build({
  entryPoints: { launcher: 'src/launcher.ts', gateway: 'src/gateway.ts', cli: 'src/cli.ts', figures: 'src/launcher/figures-child.ts', listen: 'src/launcher/listen-helper.ts', door: 'src/door.ts', doorhelper: 'src/launcher/door-helper.ts', push: 'src/launcher/push-child.ts', witness: 'src/witness.ts', export: 'src/export.ts' },
  outdir: 'dist',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node24',
  minifyWhitespace: true, // halves what each process has to read and parse; names stay readable in stack traces
  legalComments: 'none',
  logLevel: 'warning',
})
await chmod('dist', 0o755)
