// Syslog messages on their way through the intake: the body is frames as the listeners pack them.

import { EntryWriter } from '../entry-writer.ts'
import { unpackFrames } from '../syslog/frames.ts'
import { parseSyslog } from '../syslog/message.ts'
import type { IntakeRoute } from './protocol.ts'

const yieldEveryBytes = 256 * 1024

/** `peer` is who sent them; `zone` that of times without one. */
export const syslog = (peer: string, zone: string): IntakeRoute => ({
  protocol: 'syslog',
  label: 'syslog',
  credential: () => undefined,
  *decode(_, body, builder, o) {
    const writer = new EntryWriter(builder, o)
    let sinceYield = 0
    for (const { bytes, lostBytes } of unpackFrames(body)) {
      writer.count()
      const text = bytes.toString('utf8').replace(/[\r\n\0]+$/, '')
      const { message, service, level, time, fields } = parseSyslog(text, { nowMs: o.nowMs, zone })
      const members = [...fields, ['peer', peer] as const].map(
        ([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`,
      )
      writer.add({
        message,
        service,
        level,
        time,
        members,
        // Names in structured data are the sender's.
        isSuspect: fields.some(([key]) => key === 'sd') || members.some(member => member.includes('\\u')),
        deepest: 3,
        lostBytes,
      })
      sinceYield += bytes.length
      if (sinceYield >= yieldEveryBytes) {
        sinceYield = 0
        yield
      }
    }
    const { total, rejectedCount } = writer
    // Two equal messages in the same second are two: syslog's times are too coarse to tell a resend.
    return { total, rejectedCount, hasTimestamps: false, answer: () => ({ status: 204, body: '' }) }
  },
  fault: ({ status, detail }) => ({ status, body: detail }),
})
