// ExportLogsServiceRequest from its bytes, record by record.
// Field numbers: opentelemetry/proto/{collector/logs,logs,resource,common}/v1.

import type { EntryWriter } from '../entry-writer.ts'
import { refusals } from '../intake-rules.ts'
import type { Redaction } from '../json/metadata.ts'
import type { WireReader } from '../wire/protobuf.ts'
import {
  type Attribute,
  addRecord,
  deeper,
  emptyRecord,
  type LogRecord,
  listValue,
  nullValue,
  objectValue,
  plainValue,
  surroundingsOf,
  TooDeep,
  textValue,
  type Value,
} from './otlp-entry.ts'

const yieldEveryBytes = 256 * 1024

/** Gives way every 256 KiB; `refused` hears why a record was not taken. @throws WireError */
export function* decodeProtobuf(
  request: WireReader,
  writer: EntryWriter,
  redaction: Redaction,
  refused: (why: string) => void,
): Generator<void> {
  let yieldedAt = 0
  while (request.next()) {
    if (request.field !== 1) continue
    const resource = resourceOf(request.message(), redaction)
    const scopes = request.message()
    while (scopes.next()) {
      if (scopes.field !== 2) continue
      const around = surroundingsOf(resource, scopeOf(scopes.message(), redaction), redaction)
      const records = scopes.message()
      while (records.next()) {
        if (records.field !== 2) continue
        writer.count()
        const record = recordOf(records.message(), redaction)
        const why = record === null ? reject(writer) : addRecord(writer, record, around, redaction)
        if (why !== null) refused(why)
        if (records.at - yieldedAt >= yieldEveryBytes) {
          yieldedAt = records.at
          yield
        }
      }
    }
  }
}

export function reject(writer: EntryWriter): string {
  writer.rejectedCount++
  return refusals.metadataTooDeep
}

/** ResourceLogs: resource=1{attributes=1}. It may come after the records it belongs to. */
function resourceOf(fields: WireReader, redaction: Redaction): Attribute[] {
  let attributes: Attribute[] = []
  while (fields.next()) {
    if (fields.field !== 1) continue
    attributes = []
    const resource = fields.message()
    while (resource.next()) if (resource.field === 1) attributes.push(attributeOf(resource.message(), redaction, 1))
  }
  return attributes
}

/** ScopeLogs: scope=1{name=1,version=2,attributes=3}, as members of the object it becomes. */
function scopeOf(fields: WireReader, redaction: Redaction): Attribute[] {
  const members: Attribute[] = []
  const attributes: Attribute[] = []
  while (fields.next()) {
    if (fields.field !== 1) continue
    const scope = fields.message()
    while (scope.next()) {
      if (scope.field === 1 && scope.text() !== '') members.push({ key: 'name', value: textValue(scope.text()) })
      else if (scope.field === 2 && scope.text() !== '')
        members.push({ key: 'version', value: textValue(scope.text()) })
      else if (scope.field === 3) attributes.push(attributeOf(scope.message(), redaction, 2))
    }
  }
  if (attributes.length > 0) members.push({ key: 'attributes', value: objectValue(attributes, redaction) })
  return members
}

/** Null when a value nests too deep to be stored. */
function recordOf(fields: WireReader, redaction: Redaction): LogRecord | null {
  const record = emptyRecord()
  try {
    while (fields.next()) readField(fields, record, redaction)
    return record
  } catch (error) {
    if (error instanceof TooDeep) return null
    throw error
  }
}

function readField(fields: WireReader, record: LogRecord, redaction: Redaction): void {
  switch (fields.field) {
    case 1:
      record.timeNanos = fields.value
      return
    case 2:
      record.severityNumber = Number(BigInt.asIntN(32, fields.value))
      return
    case 3:
      record.severityText = fields.text()
      return
    case 5:
      record.body = anyValue(fields.message(), redaction, 1)
      return
    case 6:
      record.attributes.push(attributeOf(fields.message(), redaction, 1))
      return
    case 7:
      record.droppedAttributes = Number(BigInt.asUintN(32, fields.value))
      return
    case 8:
      record.flags = Number(BigInt.asUintN(32, fields.value))
      return
    case 9:
      record.traceId = hexOf(fields)
      return
    case 10:
      record.spanId = hexOf(fields)
      return
    case 11:
      record.observedNanos = fields.value
      return
    case 12:
      record.eventName = fields.text()
      return
  }
}

/** All zeros mean none. */
function hexOf(fields: WireReader): string {
  fields.delimited()
  const hex = fields.bytes.toString('hex', fields.from, fields.to)
  return /^0*$/.test(hex) ? '' : hex
}

/** KeyValue: key=1, value=2. */
function attributeOf(fields: WireReader, redaction: Redaction, depth: number): Attribute {
  let key = ''
  let value = nullValue
  while (fields.next())
    if (fields.field === 1) key = fields.text()
    else if (fields.field === 2) value = anyValue(fields.message(), redaction, depth)
  return { key, value }
}

/** AnyValue: string=1 bool=2 int=3 double=4 array=5{values=1} kvlist=6{values=1} bytes=7; the last one given counts. */
function anyValue(fields: WireReader, redaction: Redaction, depth: number): Value {
  let value = nullValue
  while (fields.next())
    switch (fields.field) {
      case 1:
        value = textValue(fields.text())
        break
      case 2:
        value = plainValue(fields.value === 0n ? 'false' : 'true')
        value.isSuspect = false
        break
      case 3:
        value = plainValue(String(BigInt.asIntN(64, fields.value)))
        break
      case 4:
        value = doubleOf(fields)
        break
      case 5: {
        const items: Value[] = []
        const list = fields.message()
        while (list.next()) if (list.field === 1) items.push(anyValue(list.message(), redaction, deeper(depth)))
        value = listValue(items)
        break
      }
      case 6: {
        const members: Attribute[] = []
        const list = fields.message()
        while (list.next()) if (list.field === 1) members.push(attributeOf(list.message(), redaction, deeper(depth)))
        value = objectValue(members, redaction)
        break
      }
      case 7:
        fields.delimited()
        value = textValue(fields.bytes.toString('base64', fields.from, fields.to))
        break
    }
  return value
}

/** JSON has no word for the three that are not numbers; protobuf's JSON writes them as texts. */
function doubleOf({ value }: WireReader): Value {
  const number = Buffer.alloc(8)
  number.writeBigUInt64LE(BigInt.asUintN(64, value))
  const double = number.readDoubleLE()
  return Number.isFinite(double) ? plainValue(JSON.stringify(double)) : textValue(String(double))
}
