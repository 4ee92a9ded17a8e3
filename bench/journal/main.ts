// How fast the journal is, beside what the same disk does without it.
//
//   npm run bench:journal -- [--json] [--seconds 1] [--dir FOLDER]
//
// Every cell is a new journal: that many appenders each wait for their append before the next. Afterwards it is opened
// again and every payload compared; a cell that fails this has no figure and the program exits 1. The raw figures are
// taken before and after a size's cells and the better one counts: shared disks have moods.

import { mkdtemp, rm, statfs } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { parseArgs } from 'node:util'
import { openJournal } from '#platform/journal'
import { createLog } from '#platform/telemetry'
import { dd, percentiles, type Raw, writeAndSync } from './raw.ts'

const payloadSizes = [100, 1024, 64 * 1024, 1024 * 1024]
const appenderCounts = [1, 16, 256]
/** A cell stops here even when its time is not over. */
const cellBytesMax = 2 * 1024 ** 3

interface Cell {
  payloadBytes: number
  appenders: number
  appendsPerS: number
  bytesPerS: number
  p50Ms: number
  p99Ms: number
  readBytesPerS: number
  /** Appends per second over the writes per second of the raw loop. */
  timesRaw: number
}

interface RawRow extends Raw {
  payloadBytes: number
  ddSyncBytesPerS: number | undefined
  ddOnceBytesPerS: number | undefined
}

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '1' },
    dir: { type: 'string', default: os.tmpdir() },
  },
})
const durationMs = Number(flags.seconds) * 1e3
if (!(durationMs > 0)) throw new Error(`--seconds is ${flags.seconds}; give a positive number`)
const log = createLog({ service: 'bench', level: 'silent', format: 'json' })
const root = await mkdtemp(path.join(flags.dir, 'purser-bench-'))
try {
  await bench()
} finally {
  await rm(root, { recursive: true, force: true })
}

async function bench(): Promise<void> {
  const raws: RawRow[] = []
  const cells: Cell[] = []
  for (const payloadBytes of payloadSizes) {
    const before = writeAndSync(root, payloadBytes, durationMs / 2)
    const rows: Omit<Cell, 'timesRaw'>[] = []
    for (const appenders of appenderCounts) rows.push(await measure(payloadBytes, appenders))
    const after = writeAndSync(root, payloadBytes, durationMs / 2)
    const raw = before.writesPerS > after.writesPerS ? before : after
    // About as many blocks as the loop wrote, so that dd runs as long as the loop did.
    const count = Math.max(20, Math.round((raw.writesPerS * durationMs) / 2e3))
    raws.push({
      payloadBytes,
      ...raw,
      ddSyncBytesPerS: await dd(root, payloadBytes, count, 'oflag=dsync'),
      ddOnceBytesPerS: await dd(root, payloadBytes, count, 'conv=fdatasync'),
    })
    cells.push(...rows.map(row => ({ ...row, timesRaw: row.appendsPerS / raw.writesPerS })))
  }
  if (flags.json) {
    console.log(
      JSON.stringify({ node: process.version, cpu: cpu(), seconds: durationMs / 1e3, raw: raws, journal: cells }),
    )
  } else await print(raws, cells)
}

async function measure(payloadBytes: number, appenders: number): Promise<Omit<Cell, 'timesRaw'>> {
  const dir = await mkdtemp(path.join(root, 'cell-'))
  const o = { dir, bytesMax: 2 * cellBytesMax, queueBytesMax: 2 * cellBytesMax, readers: ['bench'], log }
  const filler = Buffer.alloc(payloadBytes, 'purser ')
  const journal = await openJournal(o)
  const latencies: number[] = []
  const countMax = Math.floor(cellBytesMax / payloadBytes)
  let next = 0
  let nowMs = performance.now()
  const startedMs = nowMs
  const appendInTurn = async () => {
    const payload = Buffer.from(filler)
    while (nowMs - startedMs < durationMs && next < countMax) {
      payload.writeUIntLE(next++, 0, 6)
      const beganMs = performance.now()
      await journal.append(payload)
      nowMs = performance.now()
      latencies.push(nowMs - beganMs)
    }
  }
  await Promise.all(Array.from({ length: appenders }, appendInTurn))
  const seconds = (nowMs - startedMs) / 1e3
  await journal.close()
  const readBytesPerS = await readBack(o, filler, next)
  await rm(dir, { recursive: true })
  return {
    payloadBytes,
    appenders,
    appendsPerS: next / seconds,
    bytesPerS: (next * payloadBytes) / seconds,
    ...percentiles(latencies),
    readBytesPerS,
  }
}

/** Every payload must be there once and unchanged. @throws {Error} otherwise: a wrong journal has no speed */
async function readBack(o: Parameters<typeof openJournal>[0], filler: Buffer, count: number): Promise<number> {
  const journal = await openJournal(o)
  const startedMs = performance.now()
  const seen = new Uint8Array(count)
  const rest = filler.subarray(6)
  let found = 0
  for (
    let { batches, next } = await journal.read(null);
    batches.length > 0;
    { batches, next } = await journal.read(next)
  ) {
    for (const { payload } of batches) {
      const id = payload.readUIntLE(0, 6)
      if (seen[id] !== 0 || !payload.subarray(6).equals(rest)) throw new Error(`payload ${id} is wrong or there twice`)
      seen[id] = 1
      found++
    }
  }
  const seconds = (performance.now() - startedMs) / 1e3
  await journal.close()
  if (found !== count) throw new Error(`${count} payloads were acknowledged and ${found} read back`)
  return (count * filler.length) / seconds
}

async function print(raws: RawRow[], cells: Cell[]): Promise<void> {
  const { type } = await statfs(root)
  console.log(
    `${cpu()}, ${os.availableParallelism()} cores, file system 0x${type.toString(16)}, Node ${process.version}`,
  )
  console.log(`\nThe disk alone: write and fdatasync, one after the other`)
  table(
    ['payload', 'writes/s', 'MB/s', 'p50 ms', 'p99 ms', 'dd dsync MB/s', 'dd fdatasync MB/s'],
    raws.map(raw => [
      size(raw.payloadBytes),
      Math.round(raw.writesPerS).toString(),
      megabytes(raw.bytesPerS),
      raw.p50Ms.toFixed(3),
      raw.p99Ms.toFixed(3),
      raw.ddSyncBytesPerS === undefined ? '–' : megabytes(raw.ddSyncBytesPerS),
      raw.ddOnceBytesPerS === undefined ? '–' : megabytes(raw.ddOnceBytesPerS),
    ]),
  )
  console.log('\nThe journal: every append acknowledged after its fdatasync, all read back and compared')
  table(
    ['payload', 'appenders', 'appends/s', 'MB/s', 'p50 ms', 'p99 ms', '× raw', 'read MB/s'],
    cells.map(cell => [
      size(cell.payloadBytes),
      cell.appenders.toString(),
      Math.round(cell.appendsPerS).toString(),
      megabytes(cell.bytesPerS),
      cell.p50Ms.toFixed(3),
      cell.p99Ms.toFixed(3),
      cell.timesRaw.toFixed(2),
      megabytes(cell.readBytesPerS),
    ]),
  )
}

function table(head: string[], rows: string[][]): void {
  const widths = head.map((name, i) => Math.max(name.length, ...rows.map(row => row[i]?.length ?? 0)))
  for (const row of [head, ...rows]) console.log(row.map((text, i) => text.padStart(widths[i] ?? 0)).join('  '))
}

function size(bytes: number): string {
  if (bytes >= 1024 ** 2) return `${bytes / 1024 ** 2} MiB`
  return bytes >= 1024 ? `${bytes / 1024} KiB` : `${bytes} B`
}

function megabytes(bytesPerS: number): string {
  return (bytesPerS / 1e6).toFixed(1)
}

function cpu(): string {
  return os.cpus()[0]?.model.trim() ?? 'unknown processor'
}
