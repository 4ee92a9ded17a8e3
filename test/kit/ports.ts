// Port numbers that stay free until somebody takes them, for programs that cannot be told "any" or must come back at the
// same address.

import { createServer } from 'node:net'

/** Below 32768: from there on systems hand out ports to whoever asks for any, in the very moment between our look and its
 *  use. Above those of `purserOffsets`. */
const portMin = 25_000
const portMax = 31_999

export async function unusedPort(): Promise<number> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const port = portMin + Math.floor(Math.random() * (portMax - portMin + 1))
    if (await isFree(port)) return port
  }
  throw new Error(`no free port between ${portMin} and ${portMax}`)
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const isBound = await new Promise<boolean>(resolve => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => resolve(true))
  })
  if (isBound) await new Promise(resolve => server.close(resolve))
  return isBound
}

/** Shifts for whole instances. Fifty: with more, a port of one would be another port of the next (3000 + 6100 = 9100). */
const purserOffsets = Array.from({ length: 50 }, (_, i) => 10_000 + i * 100)
const claimPort = (portOffset: number) => 24_800 + portOffset / 100 - 100

/** A shift that no other test has while this process lives; an instance takes its ports only seconds after it was chosen. */
export async function claimOffset(areFree: (portOffset: number) => Promise<boolean>): Promise<number> {
  const first = Math.floor(Math.random() * purserOffsets.length)
  for (const portOffset of [...purserOffsets.slice(first), ...purserOffsets.slice(0, first)])
    if ((await claim(claimPort(portOffset))) && (await areFree(portOffset))) return portOffset
  throw new Error('no free ports for another instance')
}

/** Held until the process ends. */
function claim(port: number): Promise<boolean> {
  const server = createServer().unref()
  return new Promise(resolve => {
    server.once('error', () => resolve(false))
    server.listen(port, '127.0.0.1', () => resolve(true))
  })
}
