/**
 * Every error that a user can see: code, exit status of the CLI (sysexits.h), HTTP status, and what to do about it.
 * A message says what was found, where, and what was expected; the hint here says what to do. Codes are never reused.
 */
export interface ErrorEntry {
  readonly exit: number
  readonly http: number
  readonly hint: string
}

export const ERRORS = {
  USAGE_UNKNOWN_COMMAND: { exit: 64, http: 400, hint: 'Run `cordon --help` for the list of commands.' },
  USAGE_BAD_OPTION: { exit: 64, http: 400, hint: 'Run the command with --help; it shows the options and an example.' },
  OUTPUT_LOST: { exit: 74, http: 500, hint: 'Make room where the output goes, and run the command again; what it does to the host may have been done.' },
  AUDIT_UNAVAILABLE: { exit: 74, http: 503, hint: 'Free space or repair the disk under the audit log; `cordon audit verify` shows what it still holds. Acts that must be recorded are refused until it is back.' },
  AUDIT_BUDGET: { exit: 75, http: 429, hint: 'This plugin causes more records than its budget; they are counted in `gap` records. Wait, or find out what it does with `cordon audit tail --plugin NAME`.' },
  AUDIT_BAD_EVENT: { exit: 70, http: 500, hint: 'This is a defect in Cordon: a record must be one of the known types with integers and text only; report it with the message above.' },
  AUDIT_KEYS: { exit: 78, http: 503, hint: 'The log and its keys (`audit-keys` beside it) belong together, and one of them is missing, changed or of another log. Put both back as they were, or move both away: then a new log begins, with a new first key.' },
  AUDIT_NOT_FOUND: { exit: 66, http: 404, hint: 'Is the state directory right, and has `cordon serve` run on this machine?' },
  AUDIT_INDEX: { exit: 73, http: 500, hint: 'The index of the audit log is made from the log alone: move away or remove the audit-index directory below the state directory, and run the command again.' },
  WITNESS_STATE: { exit: 77, http: 403, hint: 'Give the witness a user and a directory of its own: install -d -o USER -m 0700 DIR; as root, `cordon witness` then becomes that user.' },
  AUDIT_NOT_SEALED: { exit: 75, http: 409, hint: 'Wait for the next seal (at most a minute while the daemon runs), then try again.' },
  AUDIT_NO_CHECKPOINT: { exit: 66, http: 404, hint: 'Name a text in which checkpoints of this log stand whole: three lines, and the signature lines below them, as in the file `checkpoint`.' },
  AUDIT_REPORT: { exit: 73, http: 500, hint: 'Name a file that does not exist yet, in a directory that you may write to.' },
  POLICY_ABSENT: { exit: 66, http: 404, hint: 'Write one with `cordon policy init NAME`, or check the path.' },
  POLICY_NONE_THEN: { exit: 66, http: 404, hint: '`cordon audit query --plugin NAME --type \'policy.*\'` shows every policy that came and went.' },
  POLICY_UNREADABLE: { exit: 74, http: 500, hint: 'Look at the file and its disk: `ls -l` and `journalctl -k` tell more. It must be a regular file, not a link.' },
  POLICY_UNTRUSTED: { exit: 77, http: 403, hint: 'Make the file and every directory above it belong to root and writable by root alone: chown root:root FILE; chmod go-w FILE.' },
  POLICY_INVALID: { exit: 65, http: 400, hint: 'Mend the lines named above; `cordon policy check` shows all problems at once.' },
  POLICY_SYNTAX: { exit: 65, http: 400, hint: 'The file must be one YAML 1.2 document: keys and values, indented by spaces.' },
  POLICY_YAML_FEATURE: { exit: 65, http: 400, hint: 'Write the value out in full; anchors, aliases, tags, directives and further documents are refused because they hide what a policy grants.' },
  POLICY_TOO_LARGE: { exit: 65, http: 400, hint: 'A policy is a page of text; remove what does not belong there.' },
  POLICY_UNKNOWN_FIELD: { exit: 65, http: 400, hint: 'Remove the field or fix its spelling; policies/policy.schema.json lists them all.' },
  POLICY_NOT_YET: { exit: 65, http: 400, hint: 'Remove the field: this version does not enforce it, and a promise that nobody keeps is refused.' },
  POLICY_MISSING_FIELD: { exit: 65, http: 400, hint: 'Add the field.' },
  POLICY_BAD_VALUE: { exit: 65, http: 400, hint: 'Write the value in the form that the message names.' },
  POLICY_OUT_OF_BOUNDS: { exit: 65, http: 400, hint: 'Choose a value within the bounds that the message names.' },
  POLICY_UNSAFE_PATH: { exit: 65, http: 400, hint: 'Name the narrowest path that the plugin needs.' },
  POLICY_CONFLICT: { exit: 65, http: 400, hint: 'Change one of the two values; together they cannot hold.' },
  POLICY_NAME_MISMATCH: { exit: 65, http: 400, hint: 'Rename the file to NAME.yaml, or set `plugin: NAME`; the two must agree.' },
  POLICY_PRESET: { exit: 65, http: 400, hint: 'Name a preset of the policies/ directory in `extends`, or remove the line.' },
  POLICY_WIDENS: { exit: 77, http: 403, hint: 'In a terminal: `cordon policy diff NAME` shows what it would grant, `cordon policy apply NAME` puts it in force.' },
  POLICY_EXISTS: { exit: 73, http: 409, hint: 'Edit the file that is there, or give another one with --file.' },
  POLICY_NOT_WRITTEN: { exit: 73, http: 500, hint: 'Run it as root, or give a place that you may write to with --file.' },
  STORE_ABSENT: { exit: 66, http: 404, hint: 'Check the path (in a policy it is `executable.path`); install the program there.' },
  STORE_REFUSED: { exit: 65, http: 400, hint: 'Point `executable.path` at a regular executable file, or at a directory together with `entry`.' },
  STORE_TOO_LARGE: { exit: 65, http: 400, hint: 'Remove what the program does not need (caches, test data) from the directory.' },
  STORE_CHANGING: { exit: 75, http: 503, hint: 'Something is still writing it. Wait until the copy or build has ended, then start the plugin again.' },
  STORE_PIN_MISMATCH: { exit: 65, http: 409, hint: 'If the new program is wanted, write its hash into `executable.sha256`; if not, find out who replaced it.' },
  STORE_CORRUPT: { exit: 70, http: 500, hint: 'Remove the named object from the store; it is copied anew at the next start. Then look for who or what changed it.' },
  STORE_IO: { exit: 74, http: 503, hint: 'Look at free space and health of the disk below the state directory.' },
  USERS_CORRUPT: { exit: 78, http: 500, hint: 'Restore uids.jsonl from a backup. Do not delete it: a uid that is given twice can read what its first owner left behind.' },
  USERS_EXHAUSTED: { exit: 78, http: 507, hint: 'Raise `uids.count` in cordon.yaml; numbers are never reused.' },
  USERS_CONFLICT: { exit: 78, http: 409, hint: 'Choose a range of `uids` in cordon.yaml that nothing else on this machine uses, or remove the other account.' },
  USERS_RANGE: { exit: 78, http: 500, hint: 'Set `uids` in cordon.yaml to the range that the recorded plugins were given from.' },
  USERS_TOOL: { exit: 71, http: 500, hint: 'Run the named command by hand; /etc/passwd must be writable by root (no lock file left in /etc, no read-only /etc).' },
  CGROUP_BAD_FIGURE: { exit: 70, http: 500, hint: 'The kernel file does not look as documented; report it with the kernel version.' },
  CGROUP_BUSY: { exit: 71, http: 500, hint: 'Processes remain in the cgroup although they were killed; look for state D in `ps` (a hanging disk or network mount).' },
  LOG_ABSENT: { exit: 66, http: 404, hint: '`cordon list` shows the plugins, `cordon why NAME` why one has not started.' },
  LOG_REFUSED: { exit: 73, http: 500, hint: 'The log directory must be a real directory of root with mode 0700; move away what lies there.' },
  FIGURES_FAILED: { exit: 71, http: 503, hint: 'Only the host figures are missing; plugins run on.' },
  TOKEN_REFUSED: { exit: 77, http: 500, hint: 'Remove the file and restart: a new admin token is made. Whoever could write or read the file may know the old one.' },
  CONTROL_NOT_RUNNING: { exit: 69, http: 503, hint: 'Start the daemon: `systemctl start cordon`, or `cordon serve` in another terminal.' },
  CONTROL_NOT_ROOT: { exit: 77, http: 403, hint: 'Run the command as root, for example with sudo.' },
  CONTROL_BROKEN: { exit: 76, http: 502, hint: 'CLI and daemon may be of different versions: restart the daemon, then look at its log.' },
  EVIDENCE_EXISTS: { exit: 73, http: 409, hint: 'Evidence is never added to: name a directory that does not exist yet with --out.' },
  EVIDENCE_LIMIT: { exit: 75, http: 413, hint: 'Take less at a time: --since WHEN.' },
  DATA_NONE: { exit: 66, http: 404, hint: 'See `cordon list` for the names; a data directory is made at the first start of a plugin.' },
  DATA_LISTING: { exit: 74, http: 500, hint: 'Is /usr/bin/find there, and the disk not full? Listings lie below data-listings of the state directory and may be removed.' },
  HANDSHAKE_TIMEOUT: { exit: 69, http: 502, hint: 'See `cordon logs NAME` for what the plugin said on stderr; it must print its line within 30 s.' },
  HANDSHAKE_TOO_LONG: { exit: 65, http: 502, hint: 'stdout carries two lines of JSON and nothing else until `ready`; logs belong on stderr.' },
  HANDSHAKE_NO_OUTPUT: { exit: 69, http: 502, hint: 'See `cordon logs NAME`: the plugin ended or closed stdout before it said anything. Rebuild it with a current SDK.' },
  HANDSHAKE_EOF: { exit: 69, http: 502, hint: 'See `cordon logs NAME`: the plugin ended or closed stdout during its start.' },
  HANDSHAKE_MALFORMED: { exit: 65, http: 502, hint: 'stdout carries one JSON object per line and nothing else until `ready`; logs belong on stderr.' },
  HANDSHAKE_VERSION: { exit: 65, http: 502, hint: 'Rebuild the plugin with an SDK of protocol version 2.' },
  HANDSHAKE_MANIFEST: { exit: 65, http: 502, hint: 'Ask the author of the plugin to mend the named field of its manifest.' },
  HANDSHAKE_NAME: { exit: 78, http: 502, hint: 'The operator\'s name rules: the policy file, `plugin:` and the manifest must agree.' },
  HANDSHAKE_REQUIRES_DB: { exit: 78, http: 502, hint: 'Use a build of the plugin that keeps its own data under its data directory.' },
  HANDSHAKE_REQUIRES_HOST_DATA: { exit: 78, http: 502, hint: 'Name the files that it needs under `read:` in its policy and use a build that takes them from there.' },
  HANDSHAKE_HEALTH_PATH: { exit: 65, http: 502, hint: 'The health path is plain: "/" then letters, digits, "_", "-" and "/", not below /_temps or /_events.' },
  HANDSHAKE_NOT_READY: { exit: 69, http: 502, hint: 'See `cordon logs NAME` for why the plugin reported `"ready": false`.' },
  HANDSHAKE_SOCKET: { exit: 69, http: 502, hint: 'The plugin must listen on the path of --socket-path before it prints `ready`; see `cordon logs NAME`.' },
  HANDSHAKE_NOT_SERVING: { exit: 69, http: 502, hint: 'The plugin listens but does not finish its start; see `cordon logs NAME`.' },
  CHANNEL_REFUSED: { exit: 69, http: 502, hint: 'A generation 2 plugin must accept GET /_temps/channel with its secret; see `cordon logs NAME`.' },
  CHANNEL_LOST: { exit: 69, http: 502, hint: 'No SDK reconnects, so the plugin is restarted; see `cordon logs NAME` for what it said.' },
  HEALTH_FAILED: { exit: 69, http: 502, hint: 'The plugin stopped answering its health path; see `cordon logs NAME`.' },
  WIRE_MALFORMED: { exit: 70, http: 500, hint: 'Launcher and gateway disagree about their protocol; both must be of the same build.' },
  WIRE_TIMEOUT: { exit: 69, http: 504, hint: 'The launcher did not answer in time; see its log.' },
  WIRE_CLOSED: { exit: 69, http: 503, hint: 'The daemon is stopping or restarting; try again.' },
  WIRE_REFUSED: { exit: 69, http: 502, hint: 'The launcher refused; its log and `cordon why NAME` say why.' },
  ACCESS_WRONG_HOST: { exit: 76, http: 421, hint: 'Use http://localhost:PORT for the console and API, http://NAME.localhost:PORT for a plugin.' },
  ACCESS_NO_CREDENTIALS: { exit: 77, http: 401, hint: 'API: send `Authorization: Bearer TOKEN`. Browser: open the link that `cordon open NAME` prints.' },
  ACCESS_BAD_TOKEN: { exit: 77, http: 401, hint: 'Check the token; `cordon token` shows where it lies.' },
  ACCESS_TOO_MANY_TRIES: { exit: 77, http: 429, hint: 'Wait for the seconds of the retry-after header, then use the right token.' },
  ACCESS_CROSS_ORIGIN: { exit: 77, http: 403, hint: 'Act from the page of the plugin itself; other pages may not use its session.' },
  ACCESS_SERVICE_WORKER: { exit: 77, http: 403, hint: 'A plugin page must work without a service worker, which would outlive the plugin.' },
  ACCESS_LINK_SPENT: { exit: 77, http: 410, hint: 'Run `cordon open NAME` for a new link; each works once, for five minutes.' },
  PROXY_BAD_REQUEST: { exit: 76, http: 400, hint: 'Send a well-formed HTTP/1.1 request with one Host header.' },
  PROXY_BAD_PATH: { exit: 76, http: 400, hint: 'Send a path without dot segments, empty segments, backslashes, %2F, %5C or doubly encoded characters.' },
  PROXY_HEADERS_TOO_LARGE: { exit: 76, http: 431, hint: 'Send fewer or shorter headers.' },
  PROXY_REQUEST_TIMEOUT: { exit: 75, http: 408, hint: 'Send the whole request faster.' },
  PROXY_BODY_TOO_LARGE: { exit: 76, http: 413, hint: 'Send less at once; the limit is in the message.' },
  PROXY_METHOD_REFUSED: { exit: 76, http: 405, hint: 'Use another method.' },
  PROXY_UPGRADE_REFUSED: { exit: 69, http: 501, hint: 'Use plain HTTP or server-sent events; WebSocket is not proxied to plugins.' },
  PROXY_NOT_FOUND: { exit: 69, http: 404, hint: 'Check the address; `cordon list` shows the plugins.' },
  PROXY_NOT_RUNNING: { exit: 69, http: 404, hint: 'See `cordon why NAME`, then `cordon start NAME`.' },
  PROXY_STARTING: { exit: 75, http: 503, hint: 'Try again after the seconds of the retry-after header.' },
  PROXY_PAUSED: { exit: 75, http: 503, hint: 'It runs on once records can be written again: make room on the disk of the audit log, or repair it. Then try again.' },
  PROXY_QUARANTINED: { exit: 69, http: 503, hint: 'The operator or a tripwire shut this plugin in; only the operator lets it out. Trying again does not help.' },
  PROXY_BUSY: { exit: 75, http: 503, hint: 'All connections to the plugin are in use; try again after the seconds of the retry-after header.' },
  PROXY_UNAVAILABLE: { exit: 69, http: 502, hint: 'See `cordon why NAME` and `cordon logs NAME`.' },
  PROXY_TIMEOUT: { exit: 75, http: 504, hint: 'The plugin did not begin to answer in time; see `cordon logs NAME`.' },
  PROXY_SOCKET_REFUSED: { exit: 77, http: 502, hint: 'Its socket is not the one that was taken over; restart the plugin and see `cordon why NAME`.' },
  API_NOT_FOUND: { exit: 69, http: 404, hint: 'GET /api/openapi.json lists what this host answers.' },
  API_NOT_OFFERED: { exit: 69, http: 501, hint: 'What installs, updates or widens is done by the operator with `cordon` in a terminal.' },
  HOST_NOT_ROOT: { exit: 77, http: 503, hint: 'Run it as root, or with sudo.' },
  HOST_UNSUPPORTED: { exit: 69, http: 503, hint: 'See "What it needs" in the README.' },
  HOST_PROGRAMS: { exit: 69, http: 503, hint: 'On Debian: apt-get install crun runc nftables catatonit iproute2 util-linux mount' },
  HOST_RUNTIME: { exit: 69, http: 503, hint: 'On Debian: apt-get install crun (unified cgroup v2) or runc (hybrid hosts); or set runtime.path in cordon.yaml.' },
  HOST_BUSY: { exit: 75, http: 503, hint: 'One daemon serves one state directory; stop the other one first (systemctl stop cordon).' },
  PLAN_UNENFORCEABLE: { exit: 69, http: 503, hint: 'Drop the limit, list it under `unenforced:` to run without this wall, or use a host with unified cgroup v2 and crun; `cordon doctor` shows what this host can do.' },
  LAUNCH_PATH: { exit: 78, http: 500, hint: 'Name the real path in the policy: no component of it may be a symlink, and of a `runtime:` none may be writable for others than root.' },
  LAUNCH_PROGRAM: { exit: 71, http: 500, hint: 'Run `cordon doctor`; it tries every program and kernel feature that Cordon needs.' },
  LAUNCH_CGROUP: { exit: 71, http: 500, hint: 'Start it as a unit with Delegate=yes, or: systemd-run --scope -p Delegate=yes cordon …' },
  LAUNCH_RUNTIME: { exit: 71, http: 502, hint: 'Run `cordon doctor`; it starts a container with the same runtime and says what fails.' },
  LAUNCH_SOCKET: { exit: 76, http: 502, hint: 'The plugin must bind a Unix socket at --socket-path before it prints ready, and leave it there.' },
  LAUNCH_STATE: { exit: 75, http: 409, hint: 'Look at `cordon status`; wait until the plugin has settled, or stop it first.' },
  LAUNCH_UNKNOWN_PLUGIN: { exit: 66, http: 404, hint: '`cordon list` shows the plugins; a new policy is read by `cordon reload`.' },
  LAUNCH_QUARANTINED: { exit: 77, http: 409, hint: 'Look first: `cordon why NAME`, `cordon audit tail --plugin NAME`. Only `cordon release NAME --reason TEXT` in a terminal ends it.' },
  LAUNCH_NO_POLICY: { exit: 78, http: 409, hint: 'Write one with `cordon policy init NAME`, then `cordon reload`.' },
  LAUNCH_FAILED: { exit: 69, http: 502, hint: '`cordon why NAME` walks through the causes; `cordon logs NAME` shows what it printed.' },
  LAUNCH_GATEWAY: { exit: 69, http: 503, hint: 'The daemon log says why the gateway ended; it is started again by itself.' },
  DOOR_STATE: { exit: 70, http: 500, hint: 'Launcher and door disagree about what runs; the daemon log says more, and a restart of the daemon clears it.' },
  LISTEN_FAILED: { exit: 69, http: 503, hint: 'Set another `listen:` in cordon.yaml, or end the process that holds the port (ss -ltnp shows it).' },
  EGRESS_BAD_DESTINATION: { exit: 65, http: 400, hint: 'Write NAME:PORT, *.ZONE:PORT, host.internal:PORT or a block such as 10.0.5.7/32:5432.' },
  EGRESS_COVERED: { exit: 65, http: 409, hint: 'Deny the wider rule itself, or take it out of the policy file and then: cordon policy apply NAME. Learning ends with: cordon learn NAME --stop' },
  EGRESS_DIGEST: { exit: 75, http: 409, hint: 'The file changed after it was shown; run the command again and look at the new difference.' },
  LAUNCH_DOOR: { exit: 69, http: 503, hint: 'The daemon log says why the door ended or could not be opened; it is started again by itself.' },
  LAUNCH_ISOLATION: { exit: 70, http: 502, hint: 'The program was killed before it ran. The audit record isolation.violated holds what was expected and found.' },
  SELFTEST_ABSENT: { exit: 66, http: 404, hint: 'Install Cordon again with deploy/install.sh of a checkout, or run `deploy/cordon selftest` there.' },
  SELFTEST_INCOMPLETE: { exit: 71, http: 500, hint: 'Run it again; if it ends early again, `cordon doctor` says what this machine lacks.' },
  INTERNAL_BUG: { exit: 70, http: 500, hint: 'This is a defect in Cordon; report it with the message above.' },
} as const satisfies Record<string, ErrorEntry>

export type ErrorCode = keyof typeof ERRORS
export type CodeOf<Area extends string> = Extract<ErrorCode, `${Area}_${string}`>

/** Base of all errors that are shown to a user. `message` may hold untrusted text only after `printable()`. */
export class CordonError<Code extends ErrorCode = ErrorCode> extends Error {
  readonly code: Code
  constructor(code: Code, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'CordonError'
    this.code = code
  }
  get hint(): string {
    return ERRORS[this.code].hint
  }
  get exit(): number {
    return ERRORS[this.code].exit
  }
  get http(): number {
    return ERRORS[this.code].http
  }
}

/** What crosses a process boundary or HTTP: no stack, no host path. */
export interface SafeError {
  readonly code: ErrorCode
  readonly message: string
  readonly hint: string
}

export function toSafeError(error: unknown): SafeError {
  if (error instanceof CordonError) return { code: error.code, message: error.message, hint: error.hint }
  return { code: 'INTERNAL_BUG', message: 'an unexpected error; the daemon log has the details', hint: ERRORS.INTERNAL_BUG.hint }
}
