/** For a person to read; `--json` has the exact number. */
export function aboutBytes(bytes: number): string {
  if (bytes < 1024) return `${bytes}B`
  const [size, unit] = bytes < 2 ** 20 ? [2 ** 10, 'K'] : bytes < 2 ** 30 ? [2 ** 20, 'M'] : [2 ** 30, 'G']
  return `${(bytes / size).toFixed(1).replace(/\.0$/, '')}${unit}`
}

export function aboutTime(ms: number): string {
  const seconds = Math.floor(ms / 1000)
  if (seconds < 60) return `${seconds}s`
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m${seconds % 60}s`
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)}h${Math.floor((seconds % 3600) / 60)}m` : `${Math.floor(seconds / 86_400)}d`
}

/** `1 connection`, `2 connections`. */
export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`
}
