/** Fields of a JSON Schema without a description, and objects that take unknown ones, by their path; empty is good. */
export function undescribed(node: unknown, path = ''): string[] {
  if (typeof node !== 'object' || node === null) return []
  const found: string[] = []
  if ('properties' in node && typeof node.properties === 'object' && node.properties !== null) {
    if (!('additionalProperties' in node) || node.additionalProperties !== false) found.push(`${path} is open`)
    for (const [name, field] of Object.entries(node.properties)) {
      if (typeof field !== 'object' || field === null || !('description' in field)) found.push(`${path}.${name}`)
      found.push(...undescribed(field, `${path}.${name}`))
    }
  }
  for (const below of ['items', 'anyOf'] as const) if (below in node) found.push(...[(node as Record<string, unknown>)[below]].flat().flatMap((one) => undescribed(one, `${path}[]`)))
  return found
}
