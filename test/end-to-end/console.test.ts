// The console in a real browser against the real platform: sign-in by the one-time link, every screen, live parts moving.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Browser, type BrowserContext, chromium, type Locator, type Page } from 'playwright-core'
import { loadSecret } from '#platform/tenancy/secret'
import { mintToken } from '#platform/tenancy/token'
import { systemClock } from '#platform/time'
import { startProcess } from '../../services/log-ingestion/test/process.ts'
import { testDatabase } from '../kit/database.ts'
import { pollUntil } from '../kit/poll.ts'
import { type Purser, startPurser } from '../kit/purser.ts'

const chromiumPath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(path =>
  existsSync(path),
)
const skip = chromiumPath === undefined && 'NO BROWSER: install chromium to run the console tests'

const ends: (() => Promise<void>)[] = []
let purser: Purser
let browser: Browser
let base: string

before(async () => {
  if (skip) return
  // Last month stays open until the test closes it.
  const env = { BILLAGED_CLOSE_GRACE: '9000h' }
  purser = await startPurser({ after: fn => void ends.push(fn) }, { env })
  base = `${purser.url('budgetguard')}/dashboard`
  browser = await chromium.launch({
    executablePath: chromiumPath ?? '',
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  })
})
after(async () => {
  await browser?.close()
  for (const end of ends) await end()
})

/** A page of a fresh browser profile; `problems` collects what the console itself got wrong. */
async function openPage(
  t: { after(fn: () => Promise<void>): void },
  o: { scheme?: 'dark' | 'light'; width?: number } = {},
): Promise<{ page: Page; context: BrowserContext; problems: string[] }> {
  const context = await browser.newContext({
    colorScheme: o.scheme ?? 'dark',
    viewport: { width: o.width ?? 1280, height: 900 },
  })
  t.after(() => context.close())
  context.setDefaultTimeout(60_000)
  const page = await context.newPage()
  const problems: string[] = []
  page.on('pageerror', error => problems.push(error.message))
  page.on('console', message => {
    // The browser itself reports failed requests, and a first visit without a session is one.
    if (message.type() === 'error' && !/Failed to load resource/.test(message.text())) problems.push(message.text())
  })
  return { page, context, problems }
}

/** Entries are searchable when they are stored, some moments after their 202. */
async function askUntilShown(page: Page, answer: Locator): Promise<void> {
  // Asking again gives up the question before: a slow machine gets longer each time.
  let patienceMs = 1_000
  await pollUntil(
    async () => {
      await page.getByTestId('log-query').press('Enter')
      patienceMs *= 1.5
      await answer.first().waitFor({ timeout: patienceMs })
      return true
    },
    { what: `an answer in ${answer}` },
  )
}

async function oneTimeToken(): Promise<string> {
  const secret = await loadSecret({ dataDir: purser.dataDir })
  return mintToken(secret, {
    audience: 'console-login',
    role: 'owner',
    subject: 'console',
    ttlS: 600,
    clock: systemClock,
  })
}

test('the one-time link signs in once, leaves no token in the address, and the session is out of reach of scripts', {
  skip,
}, async t => {
  const token = await oneTimeToken()
  const { page, context } = await openPage(t)
  await page.goto(`${base}#token=${token}`)
  await page.getByTestId('service-strip').waitFor()
  assert.doesNotMatch(page.url(), /token|pit_/)
  const [cookie] = await context.cookies()
  assert.ok(cookie)
  assert.deepEqual([cookie.name, cookie.httpOnly, cookie.sameSite], ['bg_session', true, 'Strict'])
  const readable = await page.evaluate<string>('document.cookie + JSON.stringify(localStorage)')
  assert.doesNotMatch(readable, /pit_|bg_session/)

  const second = await openPage(t)
  await second.page.goto(`${base}#token=${token}`)
  await second.page.getByTestId('sign-in-form').waitFor()
})

test('the admin key signs in, a wrong one says so, and signing out ends the session', { skip }, async t => {
  const { page, problems } = await openPage(t)
  await page.goto(base)
  await page.getByTestId('admin-key').fill('not-the-key')
  await page.getByTestId('sign-in').click()
  await page
    .getByText(/not|wrong|unknown/i)
    .first()
    .waitFor()
  await page.getByTestId('admin-key').fill(purser.adminKey())
  await page.getByTestId('sign-in').click()
  await page.getByTestId('service-strip').waitFor()
  await page.getByText('Sign out').first().click()
  await page.getByTestId('sign-in-form').waitFor()
  await page.goto(`${base}/spend`)
  await page.getByTestId('sign-in-form').waitFor()
  assert.deepEqual(problems, [])
})

test('the overview is alive: services, host charts, log lines arriving, spend and usage after a call', {
  skip,
}, async t => {
  const admin = { 'x-admin-key': purser.adminKey() }
  const api = purser.url('budgetguard')
  const { id } = await post<{ id: number }>(
    `${api}/admin/tenant`,
    { name: 'seen', budgets: [{ period: 'monthly', amountUsd: '1' }] },
    admin,
  )
  const { key } = await post<{ key: string }>(`${api}/admin/tenant/${id}/apikeys`, {}, admin)
  const { page, problems } = await openPage(t)
  await page.goto(`${base}#token=${await oneTimeToken()}`)
  const strip = page.getByTestId('service-strip')
  for (const name of ['budgetguard', 'log-ingestion', 'billaged', 'builderd', 'metrics-collector'])
    await strip.getByText(name).waitFor()
  await pollUntil(async () => !/away|degraded/i.test((await strip.textContent()) ?? ''), {
    what: 'five healthy services',
  })
  await page.locator('[data-testid^=host-chart] canvas').first().waitFor()

  const marker = `console-${Date.now()}`
  await post(
    `${purser.url('log-ingestion')}/api/v1/logs`,
    { log: { timestamp: new Date().toISOString(), service: 'shop', level: 'error', message: marker } },
    { 'x-api-key': purser.writeKey() },
  )
  await page.getByTestId('log-panel').getByText(marker).waitFor()

  await post(
    `${api}/v1/chat/completions`,
    { model: 'echo-priced', max_tokens: 50, messages: [{ role: 'user', content: 'seen on the overview' }] },
    { authorization: `Bearer ${key}` },
  )
  await page.getByTestId('spend-panel').getByText('seen').waitFor()
  await page.getByTestId('calls-panel').getByText('echo-priced').first().waitFor()
  await page.getByTestId('usage-panel').getByText('seen').waitFor()
  assert.deepEqual(problems, [])
})

test('logs: a query narrows, a mistake is shown where it is, live tail brings a new line', { skip }, async t => {
  const { page, problems } = await openPage(t)
  await page.goto(`${base}#token=${await oneTimeToken()}`)
  await page.getByTestId('service-strip').waitFor()
  const say = (message: string) =>
    post(
      `${purser.url('log-ingestion')}/api/v1/logs`,
      {
        log: {
          timestamp: new Date().toISOString(),
          service: 'tailed',
          level: 'warn',
          message,
          metadata: { order: '9007199254740993' },
        },
      },
      { 'x-api-key': purser.writeKey() },
    )
  await say('before the tail')
  await page.goto(`${base}/logs?q=${encodeURIComponent('service:tailed')}`)
  await askUntilShown(page, page.getByTestId('log-row'))
  await staysWhileAskedAgain(page)
  await page.getByTestId('log-query').fill('service:(')
  await page.getByTestId('log-query').press('Enter')
  await page.getByTestId('query-problem').waitFor()
  await page.getByTestId('log-query').fill('service:tailed')
  await page.getByTestId('log-query').press('Enter')
  await page.getByTestId('live-switch').click()
  await pollUntil(
    async () => {
      await say('while tailing')
      return (await page.getByText('while tailing').count()) > 0
    },
    { what: 'the tailed line', everyMs: 500 },
  )
  assert.deepEqual(problems, [])
})

test('logs: ten thousand rows scroll from the newest to the oldest, and only those on the screen are in the document', {
  skip,
}, async t => {
  const { page, problems } = await openPage(t)
  await page.goto(`${base}#token=${await oneTimeToken()}`)
  await page.getByTestId('service-strip').waitFor()
  const count = 10_000
  const firstMs = Date.now() - count - 60_000
  for (let from = 0; from < count; from += 500)
    await post(
      `${purser.url('log-ingestion')}/api/v1/logs/batch`,
      {
        logs: Array.from({ length: 500 }, (_, i) => ({
          timestamp: new Date(firstMs + from + i).toISOString(),
          service: 'many',
          level: 'info',
          message: `row ${String(from + i).padStart(5, '0')}`,
          metadata: { odd: (from + i) % 2 === 1 },
        })),
      },
      { 'x-api-key': purser.writeKey() },
    )
  await page.goto(`${base}/logs?q=${encodeURIComponent('service:many')}`)
  const rows = page.getByTestId('log-row')
  await askUntilShown(page, rows.filter({ hasText: 'row 09999' }))
  const inDocument = () => page.evaluate<number>('document.querySelectorAll("[data-testid=log-row]").length')
  const end = page.getByText('That is all of them: 10,000.')
  while ((await end.count()) === 0) {
    const more = page.getByTestId('load-more')
    await more.or(end).first().waitFor()
    if ((await more.count()) > 0) await more.click()
  }
  assert.ok((await inDocument()) < 200, `${await inDocument()} rows`)
  // Opened, it is open when it comes back; and those behind it make room.
  await page.evaluate('scrollTo(0, 0)')
  await rows.filter({ hasText: 'row 09990' }).getByRole('button').first().click()
  await page.getByText('Show the lines around it').waitFor()
  await pollUntil(
    async () => {
      await page.evaluate('scrollTo(0, document.documentElement.scrollHeight)')
      return await rows.filter({ hasText: 'row 00000' }).isVisible()
    },
    { what: 'the oldest row' },
  )
  assert.ok((await inDocument()) < 200)
  assert.equal(await page.getByText('Show the lines around it').count(), 0)
  await page.evaluate('scrollTo(0, 0)')
  await page.getByText('Show the lines around it').waitFor()
  const shown = await page.locator('.virtual-rows .log-message').allTextContents()
  assert.deepEqual(shown, [...shown].sort().reverse())
  assert.deepEqual(problems, [])
})

test('logs: an empty list says how to fill it with the reader’s own key; a page slower than lines come is told how many it missed', {
  skip,
}, async t => {
  const { page, context, problems } = await openPage(t)
  await page.goto(`${base}#token=${await oneTimeToken()}`)
  await page.getByTestId('service-strip').waitFor()
  await page.goto(`${base}/logs?q=${encodeURIComponent('service:flood')}&live=1`)
  await page.getByTestId('own-key').getByText('write-key').waitFor()
  const secret = await loadSecret({ dataDir: purser.dataDir })
  const token = mintToken(secret, { audience: 'log-ingestion', role: 'owner', subject: 'console', clock: systemClock })
  await post(
    `${purser.url('log-ingestion')}/admin/api/keys`,
    { name: 'web shop' },
    { authorization: `Bearer ${token}` },
  )
  await page.reload()
  await page.getByTestId('empty').getByText('X-API-Key: $WEB_SHOP').waitFor()
  const flood = (rows: number, text: string) =>
    post(
      `${purser.url('log-ingestion')}/api/v1/logs/batch`,
      {
        logs: Array.from({ length: rows }, (_, i) => ({
          timestamp: new Date().toISOString(),
          service: 'flood',
          level: 'info',
          message: `${i} ${text}`,
        })),
      },
      { 'x-api-key': purser.writeKey() },
    )
  await pollUntil(
    async () => {
      await flood(1, 'before')
      return (await page.getByText('0 before').count()) > 0
    },
    { what: 'the tail to be live', everyMs: 300 },
  )
  const network = await context.newCDPSession(page)
  const downloadAt = (downloadThroughput: number) =>
    network.send('Network.emulateNetworkConditions', {
      offline: false,
      latency: 0,
      downloadThroughput,
      uploadThroughput: -1,
    })
  await network.send('Network.enable')
  await downloadAt(1_000)
  const dropped = async () => {
    const text = await (await fetch(`${purser.url('log-ingestion')}/metrics`)).text()
    return Number(/^log_ingestion_tail_dropped_rows_total (\d+)/m.exec(text)?.[1] ?? 0)
  }
  // More than the buffers between here and there hold.
  const line = 'x'.repeat(9_000)
  await pollUntil(
    async () => {
      await flood(200, line)
      return (await dropped()) > 0
    },
    { what: 'the page to fall behind', everyMs: 1 },
  )
  await downloadAt(-1)
  const gap = page.getByTestId('log-gap')
  await pollUntil(
    async () => {
      await flood(1, 'after')
      return (await gap.count()) > 0
    },
    { what: 'the notice', everyMs: 300 },
  )
  assert.match((await gap.first().textContent()) ?? '', /^[\d,]+ lines came faster than this page could read/)
  assert.deepEqual(problems, [])
})

test('logs alone: the service serves its screens itself, to whoever has an admin key, and nothing else of the console', {
  skip,
}, async t => {
  const dir = await mkdtemp(join(tmpdir(), 'purser-logs-alone-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  const { url: databaseUrl } = await testDatabase(t)
  const service = startProcess(t, {
    env: {
      LOG_INGESTION_SERVER_HOST: '127.0.0.1',
      LOG_INGESTION_SERVER_PORT: '0',
      LOG_INGESTION_DATA_DIR: dir,
      LOG_INGESTION_DATABASE_URL: databaseUrl,
      LOG_INGESTION_API_KEYS: 'alone-write-key',
      LOG_INGESTION_ADMIN_API_KEYS: 'alone-admin-key',
      LOG_INGESTION_BATCH_FLUSH_INTERVAL: '50ms',
      LOG_INGESTION_SELF_LOGS: 'false',
    },
  })
  const url = await service.url
  const say = (message: string) =>
    post(
      `${url}/api/v1/logs`,
      { log: { timestamp: new Date().toISOString(), service: 'alone', level: 'warn', message } },
      { 'x-api-key': 'alone-write-key' },
    )
  await say('found alone')
  const { page, problems } = await openPage(t)
  await page.goto(`${url}/logs?q=${encodeURIComponent('service:alone')}`)
  assert.equal(new URL(page.url()).pathname, '/dashboard/logs')
  await page.getByTestId('admin-key').fill('wrong')
  await page.getByTestId('sign-in').click()
  await page.getByText('That is not the admin key').waitFor()
  await page.getByTestId('admin-key').fill('alone-admin-key')
  await page.getByTestId('sign-in').click()
  await page.getByTestId('log-query').waitFor()
  await askUntilShown(page, page.getByText('found alone'))
  assert.deepEqual(await page.locator('nav.rail li').allTextContents(), ['Logs'])
  await page.getByTestId('live-switch').click()
  await pollUntil(
    async () => {
      await say('tailed alone')
      return (await page.getByText('tailed alone').count()) > 0
    },
    { what: 'the tailed line', everyMs: 300 },
  )
  await page.goto(`${url}/errors`)
  await page.getByTestId('faults').waitFor()
  await page.goto(`${url}/dashboard/billing`)
  await page.getByTestId('log-query').waitFor()
  await page.getByText('Sign out').first().click()
  await page.getByTestId('sign-in-form').waitFor()
  await page.reload()
  await page.getByTestId('sign-in-form').waitFor()
  // To everybody but browsers it is what it was.
  const greeting = (await (await fetch(url)).json()) as { tagline?: string }
  assert.match(greeting.tagline ?? '', /Search/)
  assert.equal((await fetch(`${url}/dashboard/assets/none.js`, { headers: { accept: 'text/html' } })).status, 404)
  assert.deepEqual(problems, [])
})

/** The answer before is not taken away until the new one is here, and is marked meanwhile. */
async function staysWhileAskedAgain(page: Page): Promise<void> {
  const mayAnswer = Promise.withResolvers<void>()
  const search = /\/api\/v1\/logs\/(search|histogram)/
  await page.route(search, async route => {
    await mayAnswer.promise
    await route.continue()
  })
  await page.getByTestId('log-query').press('Enter')
  await page.locator('[data-testid=log-list][data-old] [data-testid=log-row]').first().waitFor()
  await page.locator('.panel[data-old] [data-testid=level-histogram]').waitFor()
  mayAnswer.resolve()
  await page.locator('[data-testid=log-list]:not([data-old]) [data-testid=log-row]').first().waitFor()
  await page.unroute(search)
}

test('logs: every row is accounted for, an alert is tried before it is kept, a deletion is counted before it is done', {
  skip,
}, async t => {
  const { page, problems } = await openPage(t)
  await page.goto(`${base}#token=${await oneTimeToken()}`)
  await page.getByTestId('service-strip').waitFor()
  const marker = `erase-${Date.now()}`
  for (let i = 0; i < 3; i++)
    await post(
      `${purser.url('log-ingestion')}/api/v1/logs`,
      { log: { timestamp: new Date().toISOString(), service: 'accounted', level: 'error', message: `${marker} ${i}` } },
      { 'x-api-key': purser.writeKey() },
    )

  await page.goto(`${base}/logs/intake`)
  await page.getByTestId('equation').waitFor()
  await page.locator('[data-testid=equation][data-balanced=true]').waitFor()
  for (const line of ['intake-protocol', 'intake-key', 'intake-service']) await page.getByTestId(line).first().waitFor()

  await page.goto(`${base}/logs/patterns?q=service%3Aaccounted`)
  await askUntilShown(page, page.getByTestId('pattern-row').filter({ hasText: '<' }))

  await page.goto(`${base}/logs/alerts`)
  await page.getByTestId('new-alert').click()
  await page.getByTestId('alert-name').fill('Accounted errors')
  await page.getByTestId('alert-query').fill('service:accounted')
  await page.getByTestId('alert-threshold').fill('1')
  await page.getByTestId('alert-preview').click()
  await page.getByTestId('alert-back-test').waitFor()
  await page.getByRole('button', { name: 'Create alert' }).click()
  await page.getByTestId('alert-row').filter({ hasText: 'Accounted errors' }).waitFor()

  await page.goto(`${base}/logs/data`)
  await page.getByTestId('store-row').first().waitFor()
  await page.getByTestId('verify').click()
  await page.getByTestId('verdict').getByText('All holds').waitFor()
  await page.getByTestId('new-deletion').click()
  await page.getByTestId('deletion-query').fill(`"${marker}"`)
  await page.getByTestId('deletion-reason').fill('a test of erasure')
  await page.getByTestId('deletion-count').click()
  await page.getByRole('button', { name: 'Delete 3 entries for good' }).click()
  await page.getByTestId('deletion-row').filter({ hasText: 'a test of erasure' }).waitFor()
  await page.goto(`${base}/logs?q=${encodeURIComponent(`"${marker}"`)}`)
  await page.getByTestId('empty').getByText('Nothing matches').waitFor()
  assert.deepEqual(problems, [])
})

test('logs: an entry in quarantine is mended, replayed, and found; another is discarded with a reason', {
  skip,
}, async t => {
  const { page, problems } = await openPage(t)
  await page.goto(`${base}#token=${await oneTimeToken()}`)
  await page.getByTestId('service-strip').waitFor()
  const marker = `mended-${Date.now()}`
  await post(`${purser.url('log-ingestion')}/api/v2/logs`, [`first ${marker}`, `second ${marker}`], {
    'x-api-key': purser.writeKey(),
  })
  const row = (text: string) => page.getByTestId('quarantine-row').filter({ hasText: `${text} ${marker}` })
  await pollUntil(
    async () => {
      await page.goto(`${base}/logs/quarantine`)
      await row('first').waitFor({ timeout: 2_000 })
      return true
    },
    { what: 'the entry in quarantine', timeoutMs: 30_000 },
  )

  await row('first').getByRole('button', { name: 'Replay' }).click()
  const entry = page.getByTestId('replay-entry')
  await entry.fill('{"message": ')
  assert.ok(await page.getByRole('button', { name: 'Replay as mended' }).isDisabled())
  await entry.fill(
    JSON.stringify({ timestamp: new Date().toISOString(), service: 'mended', level: 'INFO', message: marker }),
  )
  await page.getByRole('button', { name: 'Replay as mended' }).click()
  await row('first').waitFor({ state: 'detached' })

  await row('second').getByRole('button', { name: 'Discard' }).click()
  await page.getByTestId('discard-reason').fill('a test')
  await page.getByRole('button', { name: 'Discard' }).last().click()
  await row('second').waitFor({ state: 'detached' })

  await page.goto(`${base}/logs?q=${encodeURIComponent(`service:mended "${marker}"`)}`)
  await askUntilShown(page, page.getByTestId('log-row'))
  assert.equal(await page.getByTestId('log-row').count(), 1)
  assert.deepEqual(problems, [])
})

test('billing: a demo month is rehearsed and closed, an invoice explains itself to the hour, spend moves, quarantine is released', {
  skip,
}, async t => {
  const cli = fileURLToPath(new URL('../../services/billaged/cli.ts', import.meta.url))
  const server = purser.url('billaged').replace('http://', '')
  await promisify(execFile)(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', cli, 'demo', '-server', server],
    {
      env: { ...process.env, PURSER_DATA_DIR: purser.dataDir },
    },
  )
  const { page, problems } = await openPage(t)
  await page.goto(`${base}#token=${await oneTimeToken()}`)
  await page.getByTestId('service-strip').waitFor()

  // Rehearsed, then closed.
  await page.goto(`${base}/billing/close`)
  await page.getByTestId('checklist').getByText('All usage has a price').waitFor()
  await page.getByTestId('outages').getByText('No host was down.').waitFor()
  await page.getByTestId('dry-run').click()
  await page.getByTestId('close-outcome').getByText('Dry run: 3 ready').waitFor()
  for (const id of ['acme', 'globex', 'initech'])
    await page.getByTestId('close-outcome').getByText(id, { exact: true }).waitFor()
  await page.getByTestId('close-outcome').getByRole('button', { name: 'Dismiss' }).click()
  await page.getByTestId('close-ready').click()
  await page.getByRole('button', { name: 'Close 3 invoices' }).click()
  await page.getByTestId('close-outcome').getByText('3 finalised').waitFor()

  // A customer, its invoice, a line, a VM, an hour.
  await page.goto(`${base}/billing/customers`)
  await page.getByRole('link', { name: 'Acme Robotics' }).click()
  await page.getByTestId('vm-row').first().waitFor()
  await page.getByTestId('customer-invoices').getByRole('link', { name: /^INV-/ }).click()
  await page.getByTestId('receipt-badge').getByText('Receipt holds').click()
  await page.getByTestId('check-evidence-now').click()
  await page.locator('[data-testid=check-evidence][data-holds=true]').waitFor()
  await page.keyboard.press('Escape')
  await page.getByTestId('invoice-line').filter({ hasText: 'VM CPU' }).getByRole('button').click()
  const drawer = page.getByTestId('drawer')
  await drawer
    .getByTestId('explain-division')
    .getByText(/\d+ ÷ 3600000000000 = \d+ rem \d+/)
    .waitFor()
  await drawer.getByTestId('explain-vm').first().getByRole('button').click()
  await drawer.getByTestId('explain-hour').first().waitFor()
  assert.match(page.url(), /line=li_/)
  await page.keyboard.press('Escape')
  await drawer.waitFor({ state: 'detached' })
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByTestId('download-csv').click()])
  assert.match(download.suggestedFilename(), /^INV-.*\.csv$/)

  // The VM with three hours that nobody read shows them in words.
  await page.goto(`${base}/billing/customers/globex/demo-vm-08?period=${lastMonth()}`)
  await page.getByTestId('life-unmeasured').getByText('3 h').waitFor()
  await page.getByTestId('lowered-row').filter({ hasText: 'Gap' }).waitFor()

  // Money moves while one looks.
  await page.goto(`${base}/billing`)
  const amount = page.getByTestId('spend-ticker').getByTestId('amount')
  const first = await amount.textContent()
  const vm = { vmId: 'seen-live', customerId: 'acme' }
  const rpc = (metrics: object[]) =>
    post(`${purser.url('billaged')}/billing.v1.BillingService/SendMetricsBatch`, { ...vm, metrics }, {})
  const reading = (secondsAgo: number, cpuTimeNanos: string) => ({
    timestamp: new Date(Date.now() - secondsAgo * 1000).toISOString(),
    cpuTimeNanos,
    memoryUsageBytes: '1073741824',
  })
  await rpc([reading(60, '1'), reading(1, '50000000000')])
  await pollUntil(async () => (await amount.textContent()) !== first, { what: 'a moved amount' })

  // A reading from an hour ahead waits for a person.
  await rpc([reading(-3_600, '1')])
  await page.goto(`${base}/billing/quarantine`)
  const row = page.getByTestId('quarantine-row').filter({ hasText: 'seen-live' })
  await row.getByRole('button', { name: 'Release' }).click()
  await page.getByTestId('dialog').getByRole('button', { name: 'Release' }).click()
  await page.getByText('Nothing waits for a decision').waitFor()
  await page.getByTestId('billing-quarantine').getByText('Released').click()
  await page.getByTestId('quarantine-row').filter({ hasText: 'seen-live' }).waitFor()
  assert.deepEqual(problems, [])
})

test('every screen shows something true in both themes, at phone and desk width, without errors', { skip }, async t => {
  for (const [scheme, width] of [
    ['dark', 1280],
    ['light', 390],
  ] as const) {
    const { page, problems } = await openPage(t, { scheme, width })
    await page.goto(`${base}#token=${await oneTimeToken()}`)
    await page.getByTestId('service-strip').waitFor()
    const logTabs = ['patterns', 'intake', 'quarantine', 'alerts', 'data', 'errors'].map(tab => `logs/${tab}`)
    const billingTabs = ['customers', 'meters', 'events', 'plans', 'invoices', 'close', 'quarantine', 'alerts']
    const billing = ['billing', ...billingTabs.map(tab => `billing/${tab}`), 'billing/plans/example']
    for (const path of ['hosts', 'logs', ...logTabs, 'spend', ...billing, 'usage', 'builds', 'settings']) {
      await page.goto(`${base}/${path}`)
      await page.locator('main h1').waitFor()
      const overflow = await page.evaluate<number>(
        'document.documentElement.scrollWidth - document.documentElement.clientWidth',
      )
      assert.ok(overflow <= 0, `${path} at ${width} px scrolls sideways by ${overflow} px`)
    }
    assert.deepEqual(problems, [])
  }
})

test('no asset of the console carries a key, and nothing is loaded from elsewhere', { skip }, async t => {
  const { page } = await openPage(t)
  const requested: string[] = []
  page.on('request', request => requested.push(request.url()))
  const response = await page.goto(`${base}#token=${await oneTimeToken()}`)
  await page.getByTestId('service-strip').waitFor()
  assert.match(response?.headers()['content-security-policy'] ?? '', /default-src '(self|none)'/)
  const origin = new URL(base).origin
  assert.deepEqual(
    requested.filter(url => !url.startsWith(origin) && !url.startsWith('data:') && !url.startsWith('blob:')),
    [],
  )
  for (const url of requested.filter(u => u.includes('/assets/'))) {
    const body = await (await fetch(url)).text()
    assert.ok(
      !body.includes(purser.adminKey()) && !body.includes(readFileSync(`${purser.dataDir}/secret`, 'utf8').trim()),
    )
  }
})

/** `2026-10` in November: what the demo fills whole. */
function lastMonth(): string {
  const now = new Date()
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() - 1, 1)).toISOString().slice(0, 7)
}

async function post<T>(url: string, body: unknown, headers: Record<string, string>): Promise<T> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
  })
  const text = await response.text()
  assert.ok(response.ok, `${url} answered ${response.status}: ${text}`)
  return JSON.parse(text) as T
}
