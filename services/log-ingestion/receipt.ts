// Receipts: a journal position that only we could have written, bound to the tenant it was given to. They cost no storage.
//
//   rcp_ base64url( u8 version · 16 B segment · u48 from · u48 to · u32 rows · u64 received µs · 16 B MAC )

import { createHmac, timingSafeEqual } from 'node:crypto'

export interface ReceiptContent {
  segment: string
  from: number
  to: number
  rows: number
  receivedUs: bigint
}

export interface Receipts {
  issue(content: ReceiptContent, tenant: string): string
  /** Undefined for anything we did not write for this tenant. */
  read(receipt: string, tenant: string): ReceiptContent | undefined
}

const bodyBytes = 41
const macBytes = 16

export function createReceipts(key: Buffer): Receipts {
  const mac = (body: Uint8Array, tenant: string) =>
    createHmac('sha256', key).update(body).update(tenant).digest().subarray(0, macBytes)
  return {
    issue({ segment, from, to, rows, receivedUs }, tenant) {
      const bytes = Buffer.allocUnsafe(bodyBytes + macBytes)
      bytes[0] = 1
      bytes.write(segment.replaceAll('-', ''), 1, 'hex')
      bytes.writeUIntLE(from, 17, 6)
      bytes.writeUIntLE(to, 23, 6)
      bytes.writeUInt32LE(rows, 29)
      bytes.writeBigUInt64LE(receivedUs, 33)
      mac(bytes.subarray(0, bodyBytes), tenant).copy(bytes, bodyBytes)
      return `rcp_${bytes.toString('base64url')}`
    },
    read(receipt, tenant) {
      const bytes = Buffer.from(receipt.replace(/^rcp_/, ''), 'base64url')
      if (!receipt.startsWith('rcp_') || bytes.length !== bodyBytes + macBytes || bytes[0] !== 1) return undefined
      const body = bytes.subarray(0, bodyBytes)
      if (!timingSafeEqual(mac(body, tenant), bytes.subarray(bodyBytes))) return undefined
      const hex = body.toString('hex', 1, 17)
      return {
        segment: [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-'),
        from: body.readUIntLE(17, 6),
        to: body.readUIntLE(23, 6),
        rows: body.readUInt32LE(29),
        receivedUs: body.readBigUInt64LE(33),
      }
    },
  }
}
