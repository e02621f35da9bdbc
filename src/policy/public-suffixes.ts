/**
 * Is the zone one below which strangers register names? NOT the Public Suffix List: that has some 9,000 rules and changes
 * weekly. Every single label counts, and of the longer ones only those below, which are the most common. A zone that is
 * not found here may be a public suffix all the same; hosting services with accounts are in shared-names.ts.
 */
export function isPublicSuffix(zone: string): boolean {
  return !zone.includes('.') || SUFFIXES.has(zone)
}

const under = (country: string, labels: string): string[] => labels.split(' ').map((label) => `${label}.${country}`)

const SUFFIXES: ReadonlySet<string> = new Set([
  ...under('ar', 'com edu gob net org'), ...under('at', 'ac co gv or'), ...under('au', 'com edu gov id net org'), ...under('bd', 'com edu net org'),
  ...under('br', 'art blog com edu gov net org'), ...under('cn', 'ac com edu gov net org'), ...under('co', 'com edu gov net org'), ...under('cy', 'com net org'),
  ...under('eg', 'com edu gov net org'), ...under('es', 'com edu gob nom org'), ...under('fr', 'asso com gouv nom'), ...under('gr', 'com edu gov net org'),
  ...under('hk', 'com edu gov idv net org'), ...under('hu', 'co info org'), ...under('id', 'ac co go my or web'), ...under('il', 'ac co gov net org'),
  ...under('in', 'ac co edu firm gen gov ind net org res'), ...under('it', 'edu gov'), ...under('jp', 'ac ad co ed go gr lg ne or'), ...under('ke', 'ac co go ne or'),
  ...under('kr', 'ac co go ne or pe re'), ...under('lk', 'com edu gov net org'), ...under('ma', 'ac co gov net org'), ...under('mx', 'com edu gob net org'),
  ...under('my', 'com edu gov net org'), ...under('ng', 'com edu gov net org'), ...under('nz', 'ac co geek gen govt iwi kiwi maori net org school'),
  ...under('pe', 'com edu gob net org'), ...under('ph', 'com edu gov net org'), ...under('pk', 'com edu gov net org'), ...under('pl', 'com edu gov info net org waw'),
  ...under('pt', 'com edu gov org'), ...under('py', 'com edu net org'), ...under('ro', 'com org'), ...under('rs', 'ac co edu gov in org'), ...under('ru', 'com msk spb'),
  ...under('sa', 'com edu gov net org'), ...under('sg', 'com edu gov net org per'), ...under('th', 'ac co go in mi net or'), ...under('tr', 'bel biz com edu gen gov info k12 name net org web'),
  ...under('tw', 'com edu gov idv net org'), ...under('ua', 'com edu gov in kiev kyiv lviv net org'), ...under('ug', 'ac co go or'), ...under('uk', 'ac co gov ltd me net nhs org plc police sch'),
  ...under('uy', 'com edu gub net org'), ...under('ve', 'co com gob net org'), ...under('vn', 'com edu gov net org'), ...under('za', 'ac co edu gov net org web'),
  'eu.org', 'uk.com', 'us.com', 'de.com', 'eu.com', 'gb.net', 'uk.net', 'in-addr.arpa', 'ip6.arpa',
])
