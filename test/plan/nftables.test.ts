import { expect, test } from 'vitest'
import { renderRoutes, renderSealedTable } from '../../src/plan/nftables.ts'

test('the table of a namespace with both families', async () => {
  await expect(renderSealedTable(true)).toMatchFileSnapshot('golden/sealed-both.nft')
})

test('the table where the kernel has no IPv6', async () => {
  const table = renderSealedTable(false)
  await expect(table).toMatchFileSnapshot('golden/sealed-v4.nft')
  expect(table).not.toMatch(/tcp6|udp6|other6|ipv6_addr/)
})

test('the routes make every address local', () => {
  expect([renderRoutes(true), renderRoutes(false)].join('---\n')).toMatchInlineSnapshot(`
    "link set lo up
    addr add 198.18.0.1/32 dev lo
    route add local default dev lo
    route add local ::/0 dev lo
    ---
    link set lo up
    addr add 198.18.0.1/32 dev lo
    route add local default dev lo
    "
  `)
})
