// Journal records as blocks: rows are sorted into one table per tenant and UTC day, and each table is cut into blocks.

import { levelAt } from '../../level.ts'
import { RowWalk, readRecord } from '../../record.ts'
import type { TotalRows } from '../sink.ts'
import { blockRowsMax, type EncodedBlock, encodeBlock } from './encode.ts'
import { RowTable } from './row-table.ts'

export interface FreshRows {
  /** Payloads of journal records, one after the other. */
  payloads: Buffer
  /** Where each one ends. */
  ends: readonly number[]
  ids: BigInt64Array
  /** 0: not this row; undefined: all rows. */
  keeps: Uint8Array | undefined
}

export interface FreshBlock extends EncodedBlock {
  tenant: string
  /** Whole days since 1970. */
  day: number
}

/** Texts of one block; more rows would not make it smaller, only harder to hold. */
const blockBytesMax = 16 * 1024 * 1024
const daySeconds = 86_400

export function encodeFresh(rows: FreshRows): { blocks: FreshBlock[]; totals: TotalRows[] } {
  const groups = new Map<string, Group>()
  let index = 0
  let start = 0
  for (const end of rows.ends) {
    const record = readRecord(rows.payloads.subarray(start, end))
    const walk = new RowWalk(record)
    const base = start
    while (walk.next()) {
      const row = index++
      if (rows.keeps && rows.keeps[row] === 0) continue
      const day = Math.floor(walk.seconds / daySeconds)
      groupOf(groups, record.tenant, day, rows).add(walk, base, rows.ids[row] as bigint, Number(record.receivedUs))
    }
    start = end
  }
  const all = [...groups.values()]
  return { blocks: all.flatMap(group => group.blocks()), totals: all.flatMap(group => group.totals()) }
}

let last: Group | undefined

function groupOf(groups: Map<string, Group>, tenant: string, day: number, rows: FreshRows): Group {
  if (last && last.tenant === tenant && last.day === day && groups.get(last.name) === last) return last
  const name = `${day} ${tenant}`
  let group = groups.get(name)
  if (!group) {
    group = new Group(name, tenant, day, rows, groups.size === 0 ? rows.ids.length : 1_024)
    groups.set(name, group)
  }
  last = group
  return group
}

class Group {
  readonly name: string
  readonly tenant: string
  readonly day: number
  #table: RowTable
  #capacity: number
  readonly #serviceNumbers = new Map<string, number>()
  /** By hour of the day, service and level. */
  readonly #counts = new Map<number, number>()

  constructor(name: string, tenant: string, day: number, rows: FreshRows, capacity: number) {
    this.name = name
    this.tenant = tenant
    this.day = day
    this.#capacity = Math.max(1, capacity)
    this.#table = new RowTable(this.#capacity, rows.payloads)
    this.#table.idBase = rows.ids[0] ?? 0n
  }

  add(walk: RowWalk, base: number, id: bigint, receivedUs: number): void {
    if (this.#table.count === this.#capacity) this.#grow()
    const table = this.#table
    const row = table.count++
    const secondsOfDay = walk.seconds - this.day * daySeconds
    table.nsOfDay[row] = secondsOfDay * 1_000_000_000 + walk.nanos
    table.id[row] = Number(id - table.idBase)
    table.createdUs[row] = receivedUs
    table.level[row] = walk.level
    const service = this.#serviceNumber(walk.payload.toString('utf8', walk.serviceFrom, walk.messageFrom))
    table.service[row] = service
    table.messageFrom[row] = base + walk.messageFrom
    table.messageTo[row] = base + walk.metadataFrom
    if (walk.hasMetadata) {
      table.metadataFrom[row] = base + walk.metadataFrom
      table.metadataTo[row] = base + walk.end
    } else table.setNoMetadata(row)
    const count = (service * 24 + Math.floor(secondsOfDay / 3_600)) * 32 + walk.level
    this.#counts.set(count, (this.#counts.get(count) ?? 0) + 1)
  }

  #serviceNumber(name: string): number {
    let number = this.#serviceNumbers.get(name)
    if (number === undefined) {
      number = this.#table.services.length
      this.#serviceNumbers.set(name, number)
      this.#table.services.push(name)
    }
    return number
  }

  #grow(): void {
    this.#capacity *= 4
    this.#table = this.#table.grown(this.#capacity)
  }

  blocks(): FreshBlock[] {
    return cutIntoBlocks(this.#table, { level: 1, isCold: false }).map(block => ({
      ...block,
      tenant: this.tenant,
      day: this.day,
    }))
  }

  totals(): TotalRows[] {
    return [...this.#counts].map(([count, rows]) => ({
      tenant: this.tenant,
      hour: this.day * 24 + (Math.floor(count / 32) % 24),
      service: this.#table.services[Math.floor(count / (32 * 24))] as string,
      level: levelAt(count % 32),
      rows: BigInt(rows),
    }))
  }
}

/** In order, in blocks of about equal size. */
export function cutIntoBlocks(table: RowTable, o: { level: number; isCold: boolean }): EncodedBlock[] {
  const order = table.order()
  const pieces = Math.max(Math.ceil(table.count / blockRowsMax), Math.ceil(table.textBytes() / blockBytesMax))
  const rowsEach = Math.max(1, Math.ceil(table.count / pieces))
  const blocks: EncodedBlock[] = []
  for (let from = 0; from < table.count; from += rowsEach)
    blocks.push(encodeBlock(table, order, from, Math.min(table.count, from + rowsEach), o))
  return blocks
}
