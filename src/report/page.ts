import { createHash } from 'node:crypto'
import { bytesText, clockText, countText, secondsText, timeText } from './amounts.ts'
import { HOUR_MS, type PolicyThen, type Report } from './collect.ts'
import { curve } from './curve.ts'
import { short } from './describe.ts'
import { isNew, type Destination } from './destinations.ts'
import { html, Html, join, NOTHING } from './html.ts'
import { refusals, type Refusal } from './refusals.ts'
import { STYLE } from './style.ts'
import type { Row } from './timeline.ts'
import type { Usage } from './usage.ts'

/** What stands on the page beside what was collected. */
export interface Imprint {
  readonly host: string
  readonly version: string
  readonly madeMs: number
}

/** Only its own style, by hash: whatever got into the page as text could load and run nothing. */
const POLICY = `default-src 'none'; style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'; base-uri 'none'; form-action 'none'`

/** The report as one HTML file without scripts, images or anything from elsewhere. Pure. */
export function page(report: Report, imprint: Imprint): string {
  const { plugin, sinceMs, untilMs } = report
  const title = plugin === null ? `What happened on ${imprint.host}` : `What ${plugin} did on ${imprint.host}`
  const sections = SECTIONS.map(({ id, name, show }) => ({ id, name, body: show(report) }))
  return `<!doctype html>\n${html`<html lang="en"><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="${new Html(POLICY.replaceAll('"', '&quot;'))}"><meta name="viewport" content="width=device-width"><meta name="referrer" content="no-referrer"><title>${title}</title><style>${new Html(STYLE)}</style></head>
<body>
<header><h1>${title}</h1>
<p class="meta">${timeText(sinceMs)} to ${timeText(untilMs)} UTC (${secondsText((untilMs - sinceMs) / 1000)}). Made ${timeText(imprint.madeMs)} UTC by Cordon ${imprint.version} from ${countText(report.records)} audit records.</p></header>
${verdict(report)}
${numbers(report)}
<nav>${join(sections.map(({ id, name }) => html`<a href="#${id}">${name}</a>`))}</nav>
${join(sections.map(({ id, name, body }) => html`<h2 id="${id}">${name}</h2>${body}`))}
<footer><p>All times are UTC. Texts in this report were written by plugins and by whoever talked to them; they are shown as they were recorded.</p>
<p>To read on: <code>cordon audit query ${plugin === null ? '' : `--plugin ${plugin} `}--since ${new Date(sinceMs).toISOString().slice(0, 19)}Z --until ${new Date(untilMs).toISOString().slice(0, 19)}Z</code></p></footer>
</body></html>`.text}\n`
}

const SECTIONS: readonly { readonly id: string; readonly name: string; readonly show: (report: Report) => Html }[] = [
  { id: 'happened', name: 'What happened', show: happened },
  { id: 'used', name: 'What it used', show: used },
  { id: 'went', name: 'Where data went', show: went },
  { id: 'refused', name: 'What was refused', show: refused },
  { id: 'ran', name: 'What ran, and how it ended', show: ran },
  { id: 'policy', name: 'The policy then', show: policy },
  { id: 'rotate', name: 'What must be replaced', show: rotate },
  { id: 'who', name: 'Who did what', show: who },
]

const VERDICTS: Readonly<Record<number, string>> = { 0: 'whole', 2: 'tampered', 3: 'tail', 4: 'gap' }

function verdict({ verdict: { exit, lines }, unreadable }: Report): Html {
  const [first = 'The log could not be verified.', ...rest] = lines
  return html`<div class="verdict ${VERDICTS[exit] ?? 'unknown'}"><p>${first}</p><ul>${join(rest.map((line) => html`<li>${line.trim()}</li>`))}${unreadable === 0 ? NOTHING : html`<li>${countText(unreadable)} lines of the log are no records and are not in this report.</li>`}</ul></div>`
}

function numbers({ runs, destinations, acts }: Report): Html {
  const ended = runs.filter(({ endMs }) => endMs !== null)
  const killed = runs.filter((run) => run.killed).length
  const sum = (of: (d: Destination) => number): number => destinations.reduce((total, one) => total + of(one), 0)
  const fresh = destinations.filter((one) => one.connections > 0 && isNew(one)).length
  const all: readonly (readonly [string, string, boolean])[] = [
    [countText(runs.length), runs.length === 1 ? 'run' : 'runs', false], [countText(ended.length), 'ended', false], [countText(killed), 'killed', killed > 0],
    [countText(sum((d) => d.connections)), 'connections', false], [bytesText(sum((d) => d.bytesOut)), 'sent', false], [countText(fresh), 'new destinations', fresh > 0],
    [countText(sum((d) => d.refused)), 'refusals', false], [countText(acts.length), 'acts of people', false],
  ]
  return html`<ul class="numbers">${join(all.map(([number, what, look]) => html`<li${look ? new Html(' class="look"') : NOTHING}><b>${number}</b><span>${what}</span></li>`))}</ul>`
}

function happened({ before, timeline, timelineLeftOut, plugin, sinceMs, destinations }: Report): Html {
  const fresh = new Set(destinations.filter((one) => one.connections > 0 && isNew(one)).map((one) => JSON.stringify([one.plugin, one.where])))
  return html`${before.length === 0 ? html`<p class="none">The hour before holds no records.</p>` : html`<section class="before"><h3>The hour before ${clockText(sinceMs)}</h3>${rows(before, plugin === null, sinceMs - HOUR_MS, new Set())}</section>`}
${timeline.length === 0 ? html`<p class="none">Nothing is on record in this time.</p>` : rows(timeline, plugin === null, null, fresh)}
${leftOut(timelineLeftOut, 'records are not in this list; a shorter time shows them')}`
}

/**
 * @param day whose heading is not needed; null: each day gets one
 * @param fresh plugin and destination, where it was never seen before; marked once
 */
function rows(list: readonly Row[], named: boolean, day: number | null, fresh: ReadonlySet<string>): Html {
  const unmarked = new Set(fresh)
  const ordered = [...list].sort((a, b) => a.firstMs - b.firstMs || a.seq - b.seq)
  let shown = day === null ? '' : timeText(day).slice(0, 10)
  return html`<table class="rows"><tbody>${join(ordered.map((row) => {
    const today = timeText(row.firstMs).slice(0, 10)
    const heading = today === shown ? NOTHING : html`<tr class="day"><td colspan="${named ? 3 : 2}">${today}</td></tr>`
    shown = today
    const objects = row.objects.length === 0 ? NOTHING : html` <span class="objects">${row.objects.join(', ')}${row.more === 0 ? '' : ` and ${countText(row.more)} more`}</span>`
    const times = row.times < 2 ? NOTHING : html` <span class="times">×\u202f${countText(row.times)}${row.lastMs - row.firstMs < 1000 ? '' : ` until ${timeText(row.lastMs).slice(0, 10) === today ? clockText(row.lastMs) : timeText(row.lastMs)}`}</span>`
    const first = row.objects.some((object) => unmarked.delete(JSON.stringify([row.plugin, object]))) ? html`<span class="new">first seen ever</span>` : NOTHING
    return html`${heading}<tr class="${row.tone}"><td class="time">${clockText(row.firstMs)}</td>${named ? html`<td class="who">${row.plugin ?? ''}</td>` : NOTHING}<td class="what">${row.text}${objects}${first}${times}</td></tr>`
  }))}</tbody></table>`
}

function used({ usage, sinceMs, untilMs }: Report): Html {
  if (usage.length === 0) return html`<p class="none">No figures were taken in this time.</p>`
  const of = ({ plugin, memory, cpu, tasks, kills }: Usage): Html => {
    const at = { kills, sinceMs, untilMs }
    return html`<h3>${plugin}</h3>${curve(memory, { ...at, title: 'Memory', limit: 'MemoryMax', show: bytesText })}${curve(cpu, { ...at, title: 'CPU', limit: 'CPUQuota', show: (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)}\u202f%` })}${curve(tasks, { ...at, title: 'Processes and threads', limit: 'TasksMax', show: countText })}`
  }
  return html`<p class="note">The highest value of each stretch. 100\u202f% is one whole CPU. Dashed: the limit of the policy in force.</p>${join(usage.map(of))}`
}

const MAX_SHOWN = 200

function mark(destination: Destination): Html {
  return isNew(destination) ? html`<span class="new">first seen ever</span>` : NOTHING
}

function went({ destinations, plugin, destinationsLeftOut }: Report): Html {
  const reached = destinations.filter(({ connections, bytesOut }) => connections > 0 || bytesOut > 0)
  if (reached.length === 0) return html`<p class="none">Nothing was reached.</p>`
  return html`<p class="note">“First seen ever” means: in no older record of this log, reached or refused.</p>
<table><thead><tr>${plugin === null ? html`<th>Plugin</th>` : NOTHING}<th>Destination</th><th class="num">Sent</th><th class="num">Received</th><th class="num">Connections</th><th class="num">Refused</th><th>First here</th><th>Last</th></tr></thead><tbody>
${join(reached.slice(0, MAX_SHOWN).map((d) => html`<tr>${plugin === null ? html`<td class="who">${d.plugin}</td>` : NOTHING}<td class="mono">${d.where}${mark(d)}</td><td class="num">${bytesText(d.bytesOut)}</td><td class="num">${bytesText(d.bytesIn)}</td><td class="num">${countText(d.connections)}</td><td class="num">${d.refused === 0 ? '' : countText(d.refused)}</td><td class="time">${timeText(d.firstMs).slice(5)}</td><td class="time">${timeText(d.lastMs).slice(5)}</td></tr>`))}
</tbody></table>${leftOut(Math.max(0, reached.length - MAX_SHOWN), 'further destinations, of those that got least')}${leftOut(destinationsLeftOut, 'records of further destinations are not counted here')}`
}

function refused({ destinations, plugin }: Report): Html {
  const list = refusals(destinations)
  if (list.length === 0) return html`<p class="none">Nothing was refused on the network.</p>`
  const why = ({ codes }: Refusal): string => [...codes].sort((a, b) => b[1] - a[1]).map(([code, times]) => (codes.size === 1 ? code : `${code} ×\u202f${countText(times)}`)).join(', ')
  return html`<table><thead><tr>${plugin === null ? html`<th>Plugin</th>` : NOTHING}<th>Asked for</th><th class="num">Times</th><th>Why it was refused</th><th>First here</th><th>Last</th></tr></thead><tbody>
${join(list.slice(0, MAX_SHOWN).map((d) => html`<tr>${plugin === null ? html`<td class="who">${d.plugin}</td>` : NOTHING}<td class="mono">${d.names.length === 1 ? d.names[0] ?? '' : html`${countText(d.names.length)} names below ${d.zone}: <span class="objects">${d.names.slice(0, 3).join(', ')}, …</span>`}${d.fresh ? html`<span class="new">first seen ever</span>` : NOTHING}</td><td class="num">${countText(d.refused)}</td><td>${why(d)}</td><td class="time">${timeText(d.firstMs).slice(5)}</td><td class="time">${timeText(d.lastMs).slice(5)}</td></tr>`))}
</tbody></table>${leftOut(Math.max(0, list.length - MAX_SHOWN), 'further names or addresses, each asked for less often')}`
}

function ran({ runs, runsLeftOut, programs, plugin, untilMs }: Report): Html {
  if (runs.length === 0) return html`<p class="none">No run began or ended in this time.</p>`
  const ordered = [...runs].sort((a, b) => (a.startMs ?? 0) - (b.startMs ?? 0))
  return html`${programs.length === 0 ? NOTHING : html`<table><thead><tr>${plugin === null ? html`<th>Plugin</th>` : NOTHING}<th>Program (SHA-256)</th><th class="num">Runs</th><th>First here</th></tr></thead><tbody>${join(programs.map((p) => html`<tr>${plugin === null ? html`<td class="who">${p.plugin}</td>` : NOTHING}<td class="mono">${p.sha256}${p.everFirstMs !== null && p.everFirstMs >= p.firstMs ? html`<span class="new">first seen ever</span>` : NOTHING}</td><td class="num">${countText(p.runs)}</td><td class="time">${timeText(p.firstMs)}</td></tr>`))}</tbody></table>`}
<h3>Runs</h3><table><thead><tr>${plugin === null ? html`<th>Plugin</th>` : NOTHING}<th>Run</th><th>Began</th><th>Ended</th><th class="num">Lasted</th><th>Why it ended</th></tr></thead><tbody>
${join(ordered.slice(-MAX_SHOWN).map((run) => html`<tr class="${run.killed ? 'bad' : ''}">${plugin === null ? html`<td class="who">${run.plugin ?? ''}</td>` : NOTHING}<td class="mono who">${run.id}</td><td class="time">${run.startMs === null ? 'before' : timeText(run.startMs).slice(5)}</td><td class="time">${run.endMs === null ? 'not yet' : timeText(run.endMs).slice(5)}</td><td class="num">${run.startMs === null ? '' : secondsText(((run.endMs ?? untilMs) - run.startMs) / 1000)}</td><td class="what">${run.cause ?? (run.endMs === null ? '' : 'not recorded')}</td></tr>`))}
</tbody></table>${leftOut(runsLeftOut + Math.max(0, ordered.length - MAX_SHOWN), 'further runs, or records of them, are not shown')}`
}

function policy({ policies }: Report): Html {
  if (policies.length === 0) return html`<p class="none">No policy is on record for this time.</p>`
  return join(policies.map(({ period, inForce, changes, sentences }) => html`<h3>${period.plugin}: policy <code>${short(period.digest)}</code>${inForce ? '' : ' (replaced)'}</h3>
<p>In force from ${timeText(period.fromMs)}${period.toMs === null ? ' on' : ` to ${timeText(period.toMs)}`}. Brought by ${period.broughtBy}; from <code>${period.file}</code>.${period.endedBy === null ? '' : ` Then ${period.endedBy}.`}</p>
<p class="mono">${period.digest}</p>
${changes.length === 0 ? NOTHING : html`<p>Changed from the terminal, and in force at the end of this time:</p><ul class="plain">${join(changes.map((change) => html`<li>${change}</li>`))}</ul>`}
${sentences === null ? html`<p class="none">The archive does not hold this policy any more, so only its digest is known.</p>` : html`<ul class="plain sentences">${join(sentences.map((sentence) => html`<li>${sentence.trim()}</li>`))}</ul>`}`))
}

function rotate({ policies, plugin, handed }: Report): Html {
  const byPlugin = Map.groupBy(policies, ({ period }) => period.plugin)
  for (const name of handed.keys()) if (!byPlugin.has(name)) byPlugin.set(name, [])
  if (byPlugin.size === 0) return html`<p class="none">No run and no policy is on record for this time, so nothing is known of what it held.</p>`
  const every = (list: readonly PolicyThen[], of: (holds: NonNullable<PolicyThen['holds']>) => readonly string[]): string[] => [...new Set(list.flatMap(({ holds }) => (holds === null ? [] : of(holds))))]
  const item = (names: readonly string[], text: string): Html => (names.length === 0 ? NOTHING : html`<li>${text} <span class="mono">${names.join(', ')}</span></li>`)
  return html`<p>Whatever a plugin held, whoever took it over may have. Names only: values are in no record.</p>${join([...byPlugin].map(([name, list]) => html`${plugin === null ? html`<h3>${name}</h3>` : NOTHING}<ul class="plain">
${item(handed.get(name)?.secrets ?? [], 'Secrets that it was handed; replace each of them:')}
${item([...new Set([...(handed.get(name)?.env ?? []), ...every(list, (h) => h.env)])], 'Variables of its environment; replace each value that is a secret:')}
${item(every(list, (h) => h.api), 'Permissions at the host API; what they let it read may be known:')}
${item(every(list, (h) => h.read), 'Files and directories of the host that it could read; replace every key or password in them:')}
${item(every(list, (h) => h.sockets), 'Services that it could talk to; replace what they hand out, and their own credentials for it:')}
${list.some(({ holds }) => holds === null) ? html`<li>A policy of this time is not in the archive any more: what it granted beyond this is not known.</li>` : NOTHING}
<li>Its data directory, with every credential that it was given through its own pages or fetched by itself.</li><li>What people typed into its pages. Their sessions at its pages end when Cordon is restarted.</li></ul>`))}`
}

function who({ acts, actsLeftOut, plugin }: Report): Html {
  if (acts.length === 0) return html`<p class="none">Nobody did anything that is on record in this time.</p>`
  return html`<table><thead><tr><th>When</th><th>Who</th>${plugin === null ? html`<th>Plugin</th>` : NOTHING}<th>What</th></tr></thead><tbody>
${join(acts.slice(0, 2 * MAX_SHOWN).map((act) => html`<tr><td class="time">${timeText(act.firstMs).slice(5)}${act.lastMs - act.firstMs < 1000 ? '' : html` to ${timeText(act.lastMs).slice(5)}`}</td><td>${act.who}</td>${plugin === null ? html`<td class="who">${act.plugin ?? ''}</td>` : NOTHING}<td>${act.what}${act.times < 2 ? NOTHING : html` <span class="times">×\u202f${countText(act.times)}</span>`}</td></tr>`))}
</tbody></table>${leftOut(actsLeftOut + Math.max(0, acts.length - 2 * MAX_SHOWN), 'further acts are not shown')}`
}

function leftOut(count: number, what: string): Html {
  return count === 0 ? NOTHING : html`<p class="note">${countText(count)} ${what}.</p>`
}
