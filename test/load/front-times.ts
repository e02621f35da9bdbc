/** Runs in the host's namespace of the load tests: `front-times.ts PORT TOKEN PATH FILE PAUSE_MS`; when (CLOCK_MONOTONIC, ms) requests through the front began and how long they took, as JSON, until the file exists. */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'

const [port = '', token = '', path = '', file = '', pause = ''] = process.argv.slice(2)
const agent = new Agent({ keepAlive: true, maxSockets: 1 })
const at: number[] = []
const ms: number[] = []
for (let n = -10; !existsSync(file); n++) { // the first ones make connections and warm up
  const began = Number(process.hrtime.bigint() / 1_000_000n)
  const started = performance.now()
  const [answer] = (await once(request({ host: '127.0.0.1', port, path, agent, headers: { authorization: `Bearer ${token}` } }).end(), 'response')) as [import('node:http').IncomingMessage]
  await once(answer.resume(), 'end')
  if (answer.statusCode !== 200) throw new Error(`${path} answered ${answer.statusCode}`)
  if (n >= 0) {
    at.push(began)
    ms.push(performance.now() - started)
  }
  await sleep(Number(pause))
}
console.log(JSON.stringify({ at, ms }))
agent.destroy()
