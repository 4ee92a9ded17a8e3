// What a tail's events are identified by: how much of each replica's entries the reader has seen. A reader that comes back,
// to this replica or another, goes on behind exactly that.
//
//   id    = mac "." own [ "~" [ other *("~" other) ] ]     without "~": nobody knew of the others yet
//   own   = replica "." segment "." rows "." offset    of the replica that wrote the event, and where its journal goes on
//   other = replica "." segment "." rows               of each other replica that anything was stored from
//
// Replicas and segments are the 16 bytes of their ids in base64url; numbers are in base 36. To readers it is one word, and
// one that nobody can make up: a journal read from the middle of a record would look damaged.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { segmentIdBytes, segmentIdFrom } from '#platform/journal/position'
import type { RowPlace } from '../store/batches.ts'

/** Behind some rows, and where in the journal what follows them is: in the record at `offset`, or behind it. */
export interface OwnPlace extends RowPlace {
  offset: number
}

export interface SeenPlaces {
  replica: string
  own: OwnPlace
  /** By replica; undefined: not known. */
  others: ReadonlyMap<string, RowPlace> | undefined
}

/** Replicas in one id: it has to fit a header. */
export const othersMax = 32

export function formatOwn(replica: string, { segment, rows, offset }: OwnPlace): string {
  return `${shortOf(replica)}.${shortOf(segment)}.${rows.toString(36)}.${offset.toString(36)}`
}

/** To stand behind `formatOwn`. */
export function formatOthers(others: ReadonlyMap<string, RowPlace>): string {
  const parts = [...others]
    .slice(0, othersMax)
    .map(([replica, { segment, rows }]) => `${shortOf(replica)}.${shortOf(segment)}.${rows.toString(36)}`)
  return `~${parts.join('~')}`
}

/** `places` is an own place and, behind it, the others. */
export function sealPlaces(key: Buffer, places: string): string {
  return `${macOf(key, places)}.${places}`
}

export function openPlaces(key: Buffer, id: string): SeenPlaces | undefined {
  const places = id.slice(macCharacters + 1)
  const [mac, wanted] = [Buffer.from(id.slice(0, macCharacters)), Buffer.from(macOf(key, places))]
  if (id[macCharacters] !== '.' || mac.length !== wanted.length || !timingSafeEqual(mac, wanted)) return undefined
  return parsePlaces(places)
}

const macCharacters = 16

function macOf(key: Buffer, places: string): string {
  return createHmac('sha256', key).update(places).digest('base64url').slice(0, macCharacters)
}

function parsePlaces(places: string): SeenPlaces | undefined {
  const [first = '', ...rest] = places.split('~', othersMax + 2)
  const own = partOf(first)
  if (own?.offset === undefined || rest.length > othersMax) return undefined
  const others = new Map<string, RowPlace>()
  for (const text of rest) {
    if (text === '') continue
    const part = partOf(text)
    if (!part || part.offset !== undefined) return undefined
    others.set(part.replica, { segment: part.segment, rows: part.rows })
  }
  const { replica, segment, rows, offset } = own
  return { replica, own: { segment, rows, offset }, others: rest.length === 0 ? undefined : others }
}

function partOf(
  text: string,
): { replica: string; segment: string; rows: bigint; offset: number | undefined } | undefined {
  const match = /^([\w-]{22})\.([\w-]{22})\.([0-9a-z]{1,13})(?:\.([0-9a-z]{1,10}))?$/.exec(text)
  const [, replica, segment, rows, offset] = match ?? []
  if (replica === undefined || segment === undefined || rows === undefined) return undefined
  return {
    replica: longOf(replica),
    segment: longOf(segment),
    rows: parse36(rows),
    offset: offset === undefined ? undefined : Number(parse36(offset)),
  }
}

/** An event is written far more often than a segment begins. */
const shorts = new Map<string, string>()

function shortOf(id: string): string {
  let short = shorts.get(id)
  if (short === undefined) {
    short = segmentIdBytes(id).toString('base64url')
    if (shorts.size > 1_000) shorts.clear()
    shorts.set(id, short)
  }
  return short
}

function longOf(short: string): string {
  return segmentIdFrom(Buffer.from(short, 'base64url'))
}

function parse36(text: string): bigint {
  let value = 0n
  for (const digit of text) value = value * 36n + BigInt(Number.parseInt(digit, 36))
  return value
}
