import * as z from 'zod'
import { isPluginName, type PluginName } from '../base/ids.ts'
import { DOOR_STATS, EGRESS } from './door.ts'
import { PLUGIN_STATUS } from './requests.ts'

/** What stands in `ok` of an operator's answer, by request (FROM_OPERATOR). Texts may come from plugins: made printable again when shown. */
const text = (max: number) => z.string().max(max)
const pluginName = z.custom<PluginName>((v) => typeof v === 'string' && isPluginName(v))

export const STATUS_ANSWER = z.strictObject({
  plugins: z.array(PLUGIN_STATUS).max(1000),
  /** Where the gateway serves; null while it does not. */
  port: z.int().min(1).max(65535).nullable(),
  version: text(40),
  /** Policy files that were refused at the last look. */
  refused: z.int().min(0),
  /** What this host cannot give the audit log, in words. */
  notRecorded: z.array(text(200)).max(8),
})
export type StatusAnswer = z.infer<typeof STATUS_ANSWER>

/** start, stop, restart, enable, disable, release: the plugin after the act. */
export const ACT_ANSWER = z.strictObject({ plugin: PLUGIN_STATUS })

export const QUARANTINE_ANSWER = z.strictObject({
  plugin: PLUGIN_STATUS,
  /** It was in quarantine before; nothing changed. */
  already: z.boolean(),
  /** What became of its processes. */
  held: z.enum(['frozen', 'killed', 'not-running']),
  /** The kernel confirms that all of them stand still or are gone. */
  confirmed: z.boolean(),
  /** On disk, so that it outlives daemon and boot. */
  durable: z.boolean(),
})
export type QuarantineAnswer = z.infer<typeof QUARANTINE_ANSWER>

export const RELOAD_ANSWER = z.strictObject({
  /** Plugins whose policy or program is another one now, or that came or went. */
  changed: z.array(pluginName).max(1000),
  /** Policies that were refused; what ran before goes on under its old policy. */
  refused: z.array(z.strictObject({ file: text(300), message: text(2000), hint: text(1000) })).max(1000),
})

export const OPEN_ANSWER = z.strictObject({ url: text(2000) })

/** `pids`: of the host, at the moment of the answer. */
export const INSPECT_ANSWER = z.strictObject({ pids: z.array(z.int().min(1)).max(4096), frozen: z.boolean() })
/** The record that holds the hash; a checkpoint covers it. */
export const EVIDENCE_ANSWER = z.strictObject({ seq: z.int().min(0) })

/** The causes of "it does not work" in order; the first that is not ok is the one to mend. */
export const WHY_ANSWER = z.strictObject({
  steps: z.array(z.strictObject({ ok: z.boolean(), text: text(4000), fix: text(1000).nullable() })).max(100),
})
export type WhyAnswer = z.infer<typeof WHY_ANSWER>

export const EGRESS_ANSWER = z.strictObject({
  /** What is in force: the policy and what the terminal changed. */
  rules: EGRESS,
  /** How many of the rules are temporary. */
  temporary: z.int().min(0),
  /** What the policy file opens and the terminal took away, as `name:port`. */
  denied: z.array(text(320)).max(256),
  /** null: it does not run, or its door is shut. */
  stats: DOOR_STATS.nullable(),
})

/** allow, learn, apply. */
export const RETUNED_ANSWER = z.strictObject({
  /** Connections that the new rules ended. */
  closed: z.int().min(0),
  /** Ports that the plugin holds itself, so that nothing of ours could listen there. */
  held: z.array(z.int()).max(128),
  /** The plugin runs, so the rules are in force now; else with its next start. */
  live: z.boolean(),
  /** It had to be started again, since more than its egress changed. */
  restarted: z.boolean(),
})

/** deny. */
export const DENIED_ANSWER = RETUNED_ANSWER.extend({
  /** The policy file opens it, and does so again once it is applied. */
  inFile: z.boolean(),
  /** What still lets a part of it through, in words. */
  others: z.array(text(400)).max(20),
})
