// What the disk does without us: the same sizes, one writer, a sync after every write.

import { execFile } from 'node:child_process'
import { closeSync, fdatasyncSync, openSync, rmSync, writeSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'

export interface Raw {
  writesPerS: number
  bytesPerS: number
  p50Ms: number
  p99Ms: number
}

/** A plain loop of write and fdatasync, appending to a new file, for `durationMs`. Blocking calls: no event loop in it. */
export function writeAndSync(dir: string, bytes: number, durationMs: number): Raw {
  const file = path.join(dir, 'raw')
  const fd = openSync(file, 'wx')
  const buffer = Buffer.alloc(bytes, 0x5a)
  const latencies: number[] = []
  const startedMs = performance.now()
  let nowMs = startedMs
  while (nowMs - startedMs < durationMs) {
    writeSync(fd, buffer)
    fdatasyncSync(fd)
    const doneMs = performance.now()
    latencies.push(doneMs - nowMs)
    nowMs = doneMs
  }
  closeSync(fd)
  rmSync(file)
  const seconds = (nowMs - startedMs) / 1e3
  return {
    writesPerS: latencies.length / seconds,
    bytesPerS: (latencies.length * bytes) / seconds,
    ...percentiles(latencies),
  }
}

/** `dd` as another program's word on the same disk: MB/s with `oflag=dsync` (a sync per block) or `conv=fdatasync` (one
 *  at the end). Undefined where dd is missing or speaks another dialect. */
export async function dd(dir: string, bytes: number, count: number, how: 'oflag=dsync' | 'conv=fdatasync') {
  const file = path.join(dir, 'dd')
  try {
    const args = ['if=/dev/zero', `of=${file}`, `bs=${bytes}`, `count=${count}`, how]
    const { stderr } = await promisify(execFile)('dd', args, { env: { ...process.env, LC_ALL: 'C' } })
    const seconds = Number(/copied, ([\d.e-]+) s/.exec(stderr)?.[1])
    return Number.isFinite(seconds) ? (bytes * count) / seconds : undefined
  } catch {
    return undefined
  } finally {
    rmSync(file, { force: true })
  }
}

export function percentiles(latencies: number[]): { p50Ms: number; p99Ms: number } {
  const sorted = Float64Array.from(latencies).sort()
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
  return { p50Ms: at(0.5), p99Ms: at(0.99) }
}
