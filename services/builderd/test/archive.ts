// Archives for tests, written by hand so that they can also be wrong on purpose.

import { encodeHeader } from '../tar/header.ts'
import { encodePaxRecord } from '../tar/pax.ts'

export interface Member {
  name: string
  type?: 'file' | 'directory' | 'symlink' | 'hardlink' | 'char' | 'block' | 'fifo'
  body?: Buffer | string
  link?: string
  mode?: number
  uid?: number
  gid?: number
  mtimeS?: number
  major?: number
  minor?: number
  /** More PAX records, such as SCHILY.xattr.user.a. */
  pax?: Record<string, string>
}

const typeflags = { file: '0', hardlink: '1', symlink: '2', char: '3', block: '4', directory: '5', fifo: '6' } as const

export function archive(members: readonly Member[]): Buffer {
  return Buffer.concat([...members.map(encodeMember), Buffer.alloc(1024)])
}

export function encodeMember(member: Member): Buffer {
  const { name, type = 'file', link = '', pax = {} } = member
  const body = Buffer.from(member.body ?? '')
  const records = Object.entries(pax).map(([key, value]) => encodePaxRecord(key, value))
  if (name.length > 100) records.push(encodePaxRecord('path', name))
  if (link.length > 100) records.push(encodePaxRecord('linkpath', link))
  const header = encodeHeader({
    name: name.slice(0, 100),
    mode: member.mode ?? (type === 'directory' ? 0o755 : 0o644),
    uid: member.uid ?? 0,
    gid: member.gid ?? 0,
    size: body.length,
    mtimeS: member.mtimeS ?? 1_700_000_000,
    typeflag: typeflags[type],
    linkName: link.slice(0, 100),
    major: member.major ?? 0,
    minor: member.minor ?? 0,
  })
  const extended = records.length === 0 ? [] : [encodeExtended('x', Buffer.concat(records))]
  return Buffer.concat([...extended, header, padded(body)])
}

/** An `x`, `g`, `L` or `K` header with its data. */
export function encodeExtended(typeflag: string, data: Buffer): Buffer {
  const header = encodeHeader({
    name: '././@LongLink',
    mode: 0,
    uid: 0,
    gid: 0,
    size: data.length,
    mtimeS: 0,
    typeflag,
    linkName: '',
    major: 0,
    minor: 0,
  })
  return Buffer.concat([header, padded(data)])
}

function padded(body: Buffer): Buffer {
  return Buffer.concat([body, Buffer.alloc(-body.length & 511)])
}
