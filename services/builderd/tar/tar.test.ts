import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as fs from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { archive, encodeExtended, encodeMember } from '../test/archive.ts'
import { type TarEntry, TarError } from './entry.ts'
import { encodeHeader } from './header.ts'
import { createTarReader } from './reader.ts'

function readAll(data: Buffer, chunkBytes = data.length || 1): TarEntry[] {
  const entries: TarEntry[] = []
  const reader = createTarReader({ entriesLeft: 1_000_000 }, entry => entries.push(entry))
  for (let at = 0; at < data.length; at += chunkBytes) reader.push(data.subarray(at, at + chunkBytes))
  reader.end()
  return entries
}

function bodyOf(data: Buffer, entry: TarEntry): Buffer {
  if (!entry.extents) return data.subarray(entry.offset, entry.offset + entry.size)
  const body = Buffer.alloc(entry.size)
  for (const { at, offset, length } of entry.extents) data.copy(body, at, offset, offset + length)
  return body
}

function temporaryDirectory(t: { after(fn: () => void): void }): string {
  const dir = fs.mkdtempSync(join(tmpdir(), 'builderd-tar-'))
  t.after(() => fs.rmSync(dir, { recursive: true, force: true }))
  return dir
}

for (const format of ['v7', 'oldgnu', 'gnu', 'ustar', 'posix'])
  test(`reads what GNU tar writes as ${format}`, t => {
    const dir = temporaryDirectory(t)
    const long = format === 'v7' || format === 'ustar' ? 'd' : `${'long/'.repeat(30)}d`
    fs.mkdirSync(join(dir, 'in', long), { recursive: true })
    fs.writeFileSync(join(dir, 'in', long, 'file'), 'hello')
    fs.linkSync(join(dir, 'in', long, 'file'), join(dir, 'in', long, 'same'))
    fs.symlinkSync(`${long}/file`, join(dir, 'in', 'link'))
    fs.writeFileSync(join(dir, 'in', 'café'), Buffer.alloc(1000, 7), { mode: 0o600 })
    fs.chmodSync(join(dir, 'in', 'café'), 0o4751)
    fs.utimesSync(join(dir, 'in', 'café'), 1_600_000_000.25, 1_600_000_000.25)
    execFileSync('tar', ['-C', join(dir, 'in'), `--format=${format}`, '--sort=name', '-cf', join(dir, 'a.tar'), '.'])
    const data = fs.readFileSync(join(dir, 'a.tar'))

    const byName = new Map(readAll(data, 777).map(e => [Buffer.from(e.name, 'latin1').toString('utf8'), e]))
    const cafe = byName.get('./café')
    assert.ok(cafe)
    assert.equal(cafe.kind, 'file')
    assert.equal(cafe.mode, 0o4751)
    assert.equal(cafe.mtimeS, 1_600_000_000)
    assert.equal(cafe.mtimeNs, format === 'posix' ? 250_000_000 : 0)
    assert.deepEqual(bodyOf(data, cafe), Buffer.alloc(1000, 7))
    assert.equal(byName.get('./link')?.linkName, `${long}/file`)
    const [first, second] = [byName.get(`./${long}/file`), byName.get(`./${long}/same`)]
    assert.deepEqual([first?.kind, second?.kind], ['file', 'hardlink'])
    assert.equal(second?.linkName, `./${long}/file`)
    assert.equal(byName.get(`./${long}/`)?.kind, 'directory')
  })

for (const [format, version] of [
  ['gnu', '0.0'],
  ['posix', '0.0'],
  ['posix', '0.1'],
  ['posix', '1.0'],
] as const)
  test(`reads sparse files, ${format} ${version}`, t => {
    const dir = temporaryDirectory(t)
    const path = join(dir, 'sparse')
    const handle = fs.openSync(path, 'w')
    // Many pieces, so that the old format needs extension blocks and 1.0 more than one map block.
    for (let i = 0; i < 80; i++) fs.writeSync(handle, Buffer.from(`piece ${i}`), 0, undefined, i * 131_072)
    fs.ftruncateSync(handle, 100 * 131_072)
    fs.closeSync(handle)
    fs.writeFileSync(join(dir, 'after'), 'after')
    const options = [`--format=${format}`, '--sparse', `--sparse-version=${version}`, '-C', dir]
    execFileSync('tar', [...options, '-cf', join(dir, 'a.tar'), 'sparse', 'after'])
    const data = fs.readFileSync(join(dir, 'a.tar'))
    assert.ok(data.length < 2_000_000, 'the file system keeps holes, so the archive is small')

    const [sparse, after] = readAll(data, 1_000)
    assert.ok(sparse && after)
    assert.equal(sparse.name, 'sparse')
    assert.deepEqual(bodyOf(data, sparse), fs.readFileSync(path))
    assert.equal(after.name, 'after')
    assert.deepEqual(bodyOf(data, after).toString(), 'after')
  })

test('how the archive is cut into chunks changes nothing', () => {
  const data = archive([
    { name: 'a', body: 'x'.repeat(700) },
    { name: 'l'.repeat(150), body: 'y', pax: { mtime: '12.5', 'SCHILY.xattr.user.k': 'v' } },
    { name: 's', type: 'symlink', link: 'a' },
  ])
  const whole = readAll(data)
  assert.equal(whole.length, 3)
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2_000 }), chunkBytes => {
      assert.deepEqual(readAll(data, chunkBytes), whole)
    }),
    { numRuns: 50 },
  )
})

test('numbers in base-256, ids to 2^32-2, times before 1970', () => {
  const member = encodeMember({ name: 'big', uid: 0 })
  member.set([0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe], 108)
  member.set([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], 136)
  const [entry] = readAll(Buffer.concat([withChecksum(member), Buffer.alloc(1024)]))
  assert.equal(entry?.uid, 2 ** 32 - 2)
  assert.equal(entry?.mtimeS, -2)
  const [old] = readAll(archive([{ name: 'old', pax: { mtime: '-1.25' } }]))
  assert.deepEqual([old?.mtimeS, old?.mtimeNs], [-2, 750_000_000])
})

test('what is wrong is refused with a sentence', () => {
  const good = encodeMember({ name: 'a', body: 'b' })
  const cases: [name: string, data: Buffer, message: RegExp][] = [
    ['checksum', Buffer.concat([flip(good, 0), Buffer.alloc(1024)]), /wrong checksum/],
    ['cut header', good.subarray(0, 300), /cut off/],
    ['cut body', archive([{ name: 'a', body: 'x'.repeat(2000) }]).subarray(0, 1024), /cut off/],
    ['zeros in the middle', Buffer.concat([Buffer.alloc(512), good]), /after a block of zeros/],
    ['unknown type', Buffer.concat([encodeExtended('M', Buffer.from('x')), Buffer.alloc(1024)]), /member type "M"/],
    ['PAX length', Buffer.concat([encodeExtended('x', Buffer.from('99 path=a\n')), good]), /length is wrong/],
    ['PAX without =', Buffer.concat([encodeExtended('x', Buffer.from('7 path\n')), good]), /without "="/],
    ['PAX size', archive([{ name: 'a', pax: { size: '-1' } }]), /not a whole number/],
    ['NUL in a name', archive([{ name: 'a', pax: { path: 'a\0b' } }]), /NUL/],
    ['uid too large', archive([{ name: 'a', pax: { uid: '4294967295' } }]), /out of range/],
    [
      'trailing long name',
      Buffer.concat([encodeExtended('L', Buffer.from('x')), Buffer.alloc(1024)]),
      /belongs to nothing/,
    ],
    ['extended header too long', encodeExtended('x', Buffer.alloc(1_048_577)), /at most 1048576/],
  ]
  for (const [name, data, message] of cases)
    assert.throws(
      () => readAll(data),
      (error: unknown) => error instanceof TarError && message.test(error.message),
      name,
    )
})

test('a million entries are the end of it, and memory stays flat', () => {
  const reader = createTarReader({ entriesLeft: 1_000_000 }, () => {})
  const block = encodeHeader({
    name: 'a',
    mode: 0,
    uid: 0,
    gid: 0,
    size: 0,
    mtimeS: 0,
    typeflag: '0',
    linkName: '',
    major: 0,
    minor: 0,
  })
  const many = Buffer.concat(Array.from({ length: 10_000 }, () => block))
  for (let i = 0; i < 100; i++) reader.push(many)
  assert.throws(() => reader.push(block), /more entries/)
})

test('extended headers are bounded together', () => {
  const reader = createTarReader({ entriesLeft: 1_000_000 }, () => {})
  const mebibyte = encodeExtended('L', Buffer.alloc(1_048_576, 0x61))
  for (let i = 0; i < 64; i++) reader.push(mebibyte)
  assert.throws(() => reader.push(mebibyte), /together/)
})

test('a changed byte or a cut never does more than fail', () => {
  const data = archive([
    { name: 'dir/', type: 'directory' },
    { name: 'dir/file', body: 'x'.repeat(600), pax: { mtime: '1.5' } },
    {
      name: 'sparse',
      body: Buffer.from(`1\n0\n3\n${'\0'.repeat(506)}abc`),
      pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '9', 'GNU.sparse.name': 's' },
    },
    { name: 'n'.repeat(300), type: 'hardlink', link: 'm'.repeat(300) },
  ])
  assert.equal(readAll(data).length, 4)
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(data.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      fc.nat(data.length),
      fc.boolean(),
      (changes, cut, mend) => {
        const damaged = Buffer.from(data)
        for (const [at, byte] of changes) damaged[at] = byte
        // With the checksums put right again the damage reaches the parsers behind them.
        if (mend) for (let at = 0; at + 512 <= damaged.length; at += 512) withChecksum(damaged.subarray(at, at + 512))
        try {
          readAll(damaged.subarray(0, cut), 999)
        } catch (error) {
          if (!(error instanceof TarError)) throw error
        }
      },
    ),
    { numRuns: 3_000 },
  )
})

function flip(data: Buffer, at: number): Buffer {
  const copy = Buffer.from(data)
  copy[at] = (copy[at] ?? 0) ^ 1
  return copy
}

/** Puts the checksum of a header right, in place. */
function withChecksum(block: Buffer): Buffer {
  if (block.toString('latin1', 257, 262) !== 'ustar') return block
  block.fill(0x20, 148, 156)
  let sum = 0
  for (const byte of block.subarray(0, 512)) sum += byte
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 8, 'latin1')
  return block
}
