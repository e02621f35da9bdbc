import { chromium, type Browser, type BrowserContext } from 'playwright-core'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import { Bed } from '../proxy/fixture.ts'

/**
 * What a real browser does with our origins: the rules in src/access rest on it. Fixed here because browsers change:
 * which cookies they send where, and whether Sec-Fetch and frame-ancestors mean what we take them to mean.
 */
const bed = new Bed()
let browser: Browser
let context: BrowserContext
let posts: string[] = []

beforeAll(async () => {
  // A page of the console, which frames what its query names; the console itself is not part of this test.
  await bed.start({}, (app) => void app.get('/frame', { config: { open: true } }, (request, reply) =>
    reply.header('content-security-policy', "frame-ancestors 'none'").type('text/html').send(`<iframe id="f" src="${new URL(request.url, 'http://x').searchParams.get('src') ?? ''}"></iframe>`)))
  for (const name of ['seo', 'evil']) {
    await bed.plugin(name, (req, res) => {
      if (req.method !== 'GET') posts.push(`${name} ${req.url}`)
      res.setHeader('content-type', req.url === '/sw.js' ? 'text/javascript' : 'text/html')
      res.end(req.url === '/sw.js' ? 'self.onfetch = () => {}' : `<title>${name}</title><h1 id="who">${name}</h1>`)
    })
  }
  browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox'] })
})
afterAll(async () => {
  await browser?.close()
  await bed.stop()
})
beforeEach(async () => {
  posts = []
  context = await browser.newContext()
})
afterEach(() => context.close())

/** Script, as text: it runs in the page. */
const frameOf = (url: string): string => `void document.body.append(Object.assign(document.createElement('iframe'), { id: 'g', src: ${JSON.stringify(url)} }))`
const page = (name: string): string => `http://${bed.site(name)}/api/x/${name}/ui/`

test('a one-time link opens the page of the plugin, and its own requests work', async () => {
  const tab = await context.newPage()
  await tab.goto(bed.link('seo'))
  expect([tab.url(), await tab.textContent('#who')]).toEqual([page('seo'), 'seo'])
  expect(await tab.evaluate(() => fetch('/api/x/seo/save', { method: 'POST' }).then((r) => r.status))).toBe(200)
  expect(posts).toEqual(['seo /save'])
  expect(await tab.evaluate('document.cookie')).toBe('')
})

test('framed in the console it is signed in as well', async () => {
  const tab = await context.newPage()
  await tab.goto(`http://${bed.host}/frame?src=${encodeURIComponent(bed.link('seo'))}`)
  const frame = tab.frameLocator('#f')
  expect(await frame.locator('#who').textContent({ timeout: 30_000 })).toBe('seo')
  const inside = tab.frames().find((f) => f.url() === page('seo'))
  expect(await inside?.evaluate(() => fetch('/api/x/seo/save', { method: 'POST' }).then((r) => r.status))).toBe(200)
})

test('another plugin\'s page can neither act with that session, read with it, nor frame it', async () => {
  const tab = await context.newPage()
  await tab.goto(bed.link('seo'))
  await tab.goto(bed.link('evil'))
  const there = `http://${bed.site('seo')}/api/x/seo/save`
  await tab.evaluate((url) => fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include' }).catch(() => null), there)
  expect(await tab.evaluate((url) => fetch(url, { credentials: 'include' }).then(() => 'read', () => 'refused'), there)).toBe('refused')
  // A form post is a navigation, which needs no CORS.
  await tab.evaluate(`{ const form = Object.assign(document.createElement('form'), { method: 'post', action: ${JSON.stringify(there)} }); document.body.append(form); form.submit() }`)
  await tab.waitForURL(there)
  expect(posts).toEqual([])
  await tab.goto(page('evil'))
  // By a link, so that the frame is signed in and only frame-ancestors stands in the way; the console may (above).
  await tab.evaluate(frameOf(bed.link('seo')))
  await tab.waitForTimeout(500)
  expect(tab.frames()).toHaveLength(2)
  for (const frame of tab.frames().slice(1)) expect(await frame.locator('#who').count()).toBe(0)
})

test('framed side by side in the console, one still cannot act with the session of the other', async () => {
  const tab = await context.newPage()
  await tab.goto(`http://${bed.host}/frame?src=${encodeURIComponent(bed.link('seo'))}`)
  await tab.frameLocator('#f').locator('#who').waitFor()
  const link = bed.link('evil')
  await tab.evaluate(frameOf(link))
  await tab.frameLocator('#g').locator('#who').waitFor()
  const evil = tab.frames().find((f) => f.url() === page('evil'))
  const there = `http://${bed.site('seo')}/api/x/seo/save`
  await evil?.evaluate((url) => fetch(url, { method: 'POST', mode: 'no-cors', credentials: 'include' }).catch(() => null), there)
  expect(posts).toEqual([])
  // Control: its own session works from the same place.
  expect(await evil?.evaluate(() => fetch('/api/x/evil/save', { method: 'POST' }).then((r) => r.status))).toBe(200)
})

test('a plugin\'s page cannot frame the console nor register a service worker', async () => {
  const tab = await context.newPage()
  await tab.goto(bed.link('seo'))
  expect(await tab.evaluate(() => fetch('/api/x/seo/sw.js').then((r) => r.status))).toBe(200)
  expect(await tab.evaluate(`navigator.serviceWorker.register('/api/x/seo/sw.js', { scope: '/api/x/seo/' }).then(() => 'registered', () => 'refused')`)).toBe('refused')
  await tab.evaluate(frameOf(`http://${bed.host}/frame?src=about:blank`))
  await tab.waitForTimeout(500)
  expect(tab.frames()).toHaveLength(2)
  for (const frame of tab.frames().slice(1)) expect(await frame.locator('#f').count()).toBe(0)
})

test('the console\'s origin sends a browser to the plugin\'s', async () => {
  const tab = await context.newPage()
  await tab.goto(bed.link('seo'))
  await tab.goto(`http://${bed.host}/api/x/seo/ui/`)
  expect([tab.url(), await tab.textContent('#who')]).toEqual([page('seo'), 'seo'])
})
