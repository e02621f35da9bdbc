import type { Limits, Policy } from '../../src/policy/policy.ts'
import { formatBytes } from '../../src/policy/units.ts'

/** What sets one policy apart from the next, in a few lines; `cordon policy explain` says all of it. */
export function givenTo({ executable, runtime, limits, read, sockets, api, http }: Policy): [string, string][] {
  const program = executable.entry === null ? executable.path : `${executable.path}/${executable.entry}`
  const legacy = api.legacy === 'grant' ? ' (without having asked in its manifest)' : ''
  const granted = [...runtime, ...read, ...sockets].map(({ path, reason }) => `${path} (${reason})`)
  return [
    ['program', `${program}, from a copy that was hashed${executable.sha256 === null ? '' : ', and only with the pinned hash'}`],
    ['limits', limitsOf(limits)],
    ['sees', ['its own data', '/usr', ...granted].join(', ')],
    ['network', 'none'],
    ['may ask', api.grants.length === 0 ? 'the host for nothing' : `the host for ${api.grants.join(', ')}${legacy}`],
    ['public', http.publicPaths.length === 0 ? 'nothing without a login' : http.publicPaths.join(', ')],
  ]
}

function limitsOf({ MemoryMax, CPUQuota, TasksMax, LimitNOFILE, TmpMax }: Limits): string {
  return `memory ${formatBytes(MemoryMax)}, CPU ${CPUQuota}%, ${TasksMax} tasks, ${LimitNOFILE} open files, /tmp ${formatBytes(TmpMax)}`
}
