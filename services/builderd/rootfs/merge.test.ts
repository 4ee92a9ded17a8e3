import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { TarError } from '../tar/entry.ts'
import { createTarReader } from '../tar/reader.ts'
import { tarPieces } from '../tar/writer.ts'
import { archive, type Member } from '../test/archive.ts'
import { openLayer } from './merge.ts'
import { find, splitPath } from './paths.ts'
import { type Directory, type Node, newDirectory, walk } from './tree.ts'

const epoch = { s: 0, ns: 0 }

function mergeLayers(archives: readonly Buffer[], nodesLeft = 1_000_000): Directory {
  const root = newDirectory(0o755, epoch)
  const bounds = { nodesLeft, entriesLeft: 1_000_000 }
  for (const [index, data] of archives.entries()) {
    const layer = openLayer(root, index, bounds)
    const reader = createTarReader(bounds, layer.add)
    reader.push(data)
    reader.end()
    layer.merge()
  }
  return root
}

const merge = (...layers: readonly Member[][]) => mergeLayers(layers.map(archive))

/** path → what stands there, hard links as `= first name`. */
function listing(root: Directory, archives: readonly Buffer[]): Record<string, string> {
  const names = new Map<Node, string>()
  const lines: Record<string, string> = {}
  for (const { path, node } of walk(root)) {
    const first = names.get(node)
    lines[path] = first === undefined ? lineOf(node, archives) : `= ${first}`
    if (node.kind !== 'directory' && first === undefined) names.set(node, path)
  }
  return lines
}

function lineOf(node: Node, archives: readonly Buffer[]): string {
  const meta = `${node.kind} ${node.mode.toString(8)} ${node.uid} ${node.mtimeS}`
  if (node.kind === 'symlink') return `${meta} -> ${node.target}`
  if (node.kind !== 'file' || node.body.in !== 'layer') return meta
  const data = archives[node.body.layer]?.subarray(node.body.offset, node.body.offset + node.size)
  return `${meta} "${data}"`
}

const dir = (name: string, more: Partial<Member> = {}): Member => ({ name: `${name}/`, type: 'directory', ...more })
const file = (name: string, body = name): Member => ({ name, body })
const paths = (root: Directory) => [...walk(root)].map(({ path }) => path)

test('G8: names are bytes; dots and slashes collapse, what could lead elsewhere is refused, the root stays a directory', () => {
  assert.deepEqual(splitPath('//./a///b/.'), ['a', 'b'])
  assert.deepEqual(paths(merge([file('/./a//b'), file('./c')])), ['a', 'a/b', 'c'])
  // Not UTF-8, and both kept as they are.
  const bytes = [`\xff\xfe`, Buffer.from('caf\u00e9').toString('latin1')]
  assert.deepEqual(paths(merge(bytes.map(name => file(name)))).sort(), [...bytes].sort())
  const refused = [
    '../a',
    'a/..',
    'a/../b',
    '.wh.',
    'a/.wh.',
    '.wh..',
    '.wh...',
    'x'.repeat(256),
    `${'a/'.repeat(2_048)}ab`,
  ]
  for (const name of refused)
    assert.throws(() => merge([{ name: 'n', pax: { path: name } }]), TarError, name.slice(0, 20))
  assert.throws(() => merge([{ name: 'n', pax: { path: 'a\0b' } }]), /NUL/)
  assert.doesNotThrow(
    () => merge([{ name: 'n', pax: { path: `${'x'.repeat(255)}/${'a/'.repeat(1_919)}ab` } }]),
    'exactly 255 and 4096',
  )
  assert.throws(() => merge([file('./')]), /the root/)
  assert.equal(merge([dir('.', { mode: 0o700 })]).mode, 0o700)
})

// The model: every path by itself, one layer after the other, no tree. Links to directories are left out, because a
// model that follows them would be the code under test again.
const part = fc.constantFrom('a', 'b', 'c', 'd')
const pathArbitrary = fc.array(part, { minLength: 1, maxLength: 3 }).map(parts => parts.join('/'))
type Action = { do: 'file' | 'directory' | 'whiteout' | 'opaque' | 'hardlink'; path: string; to: string; n: number }
const actionArbitrary: fc.Arbitrary<Action> = fc.record({
  do: fc.constantFrom('file', 'file', 'directory', 'whiteout', 'opaque', 'hardlink'),
  path: pathArbitrary,
  to: pathArbitrary,
  n: fc.nat(0o777),
})

interface ModelNode {
  is: 'file' | 'directory'
  id: number
  mode: number
  layer: number
}

/** One layer as paths; returns the members that make it and the map after it. */
function modelLayer(below: ReadonlyMap<string, ModelNode>, actions: readonly Action[], layer: number) {
  const members: Member[] = []
  const own = new Map<string, ModelNode & { isImplicit: boolean; cutsLower: boolean }>()
  const hidden: { path: string; childrenOnly: boolean }[] = []
  const parentsOf = (path: string) =>
    path
      .split('/')
      .slice(0, -1)
      .map((_, i, all) => all.slice(0, i + 1).join('/'))
  const removeBelow = (path: string) => {
    for (const key of [...own.keys()]) if (key.startsWith(`${path}/`)) own.delete(key)
  }
  const makeParents = (path: string) => {
    for (const parent of parentsOf(path)) {
      const before = own.get(parent)
      if (before?.is === 'directory') continue
      own.set(parent, { is: 'directory', id: 0, mode: 0o755, layer, isImplicit: true, cutsLower: before !== undefined })
    }
  }
  for (const [i, action] of actions.entries()) {
    const { path } = action
    const base = path.split('/').at(-1)
    const inside = path.split('/').slice(0, -1).join('/')
    if (action.do === 'hardlink') {
      const cut = [...own].some(
        ([key, node]) => node.cutsLower && (action.to === key || action.to.startsWith(`${key}/`)),
      )
      const shadowed = parentsOf(action.to).some(p => own.get(p)?.is === 'file')
      const target = own.get(action.to) ?? (cut || shadowed ? undefined : below.get(action.to))
      // A link below its own target would need a file that is a directory; refused, tested above.
      if (target?.is !== 'file' || path.startsWith(`${action.to}/`)) continue
      members.push({ name: path, type: 'hardlink', link: action.to })
      makeParents(path)
      if (own.get(path)?.is === 'directory') removeBelow(path)
      own.set(path, { ...target, isImplicit: false, cutsLower: false })
    } else if (action.do === 'file') {
      members.push({ name: path, body: `${layer}-${i}`, mode: action.n })
      makeParents(path)
      removeBelow(path)
      own.set(path, {
        is: 'file',
        id: layer * 1_000 + i + 1,
        mode: action.n,
        layer,
        isImplicit: false,
        cutsLower: false,
      })
    } else if (action.do === 'directory') {
      members.push({ name: `${path}/`, type: 'directory', mode: action.n })
      makeParents(path)
      const before = own.get(path)
      const cutsLower = before?.is === 'file' || (before?.cutsLower ?? false)
      own.set(path, { is: 'directory', id: 0, mode: action.n, layer, isImplicit: false, cutsLower })
    } else if (action.do === 'whiteout') {
      members.push({ name: inside === '' ? `.wh.${base}` : `${inside}/.wh.${base}`, body: '' })
      makeParents(path)
      hidden.push({ path, childrenOnly: false })
    } else {
      members.push({ name: `${path}/.wh..wh..opq`, body: '' })
      makeParents(`${path}/x`)
      hidden.push({ path, childrenOnly: true })
    }
  }
  const result = new Map<string, ModelNode>()
  for (const [path, node] of below) {
    // A whiteout whose directory a later entry of the layer replaced is gone with it.
    const isHidden = hidden.some(
      h =>
        (path.startsWith(`${h.path}/`) || (!h.childrenOnly && path === h.path)) &&
        (h.childrenOnly ? [h.path, ...parentsOf(h.path)] : parentsOf(h.path)).every(
          p => own.get(p)?.is === 'directory',
        ),
    )
    const replaced = [path, ...parentsOf(path)].some(p => own.get(p)?.is === 'file' || own.get(p)?.cutsLower)
    const underLowerFile = parentsOf(path).some(p => below.get(p)?.is === 'file')
    if (!isHidden && !replaced && !underLowerFile) result.set(path, node)
  }
  for (const [path, node] of own) {
    const lower = result.get(path)
    if (node.isImplicit && lower?.is === 'directory') continue
    result.set(path, { is: node.is, id: node.id, mode: node.mode, layer: node.layer })
  }
  return { members, result }
}

describe('G9: layering is overlayfs’s', () => {
  test('a whiteout hides lower content only, wherever in the archive it stands', () => {
    const lower = [dir('a'), file('a/old'), file('a/kept'), file('b')]
    for (const upper of [
      [file('.wh.b'), dir('a'), file('a/.wh.old'), file('a/new'), file('b', 'again')],
      [file('b', 'again'), dir('a'), file('a/new'), file('a/.wh.old'), file('.wh.b')],
    ])
      assert.deepEqual(paths(merge(lower, upper)), ['a', 'a/kept', 'a/new', 'b'])
    assert.deepEqual(paths(merge(lower, [file('a/new'), file('.wh.a')])), ['a', 'a/new', 'b'])
  })

  test('an opaque directory hides all lower children, and only those', () => {
    const lower = [dir('a'), dir('a/d'), file('a/d/deep'), file('a/old')]
    assert.deepEqual(paths(merge(lower, [dir('a'), file('a/new'), file('a/.wh..wh..opq')])), ['a', 'a/new'])
    assert.deepEqual(paths(merge(lower, [file('a/.wh..wh..opq'), file('a/d')])), ['a', 'a/d'])
  })

  test('aufs bookkeeping is ignored; a whiteout without a name or with children is refused', () => {
    assert.deepEqual(paths(merge([file('.wh..wh.aufs'), dir('.wh..wh.plnk'), file('.wh..wh.plnk/12.3'), file('a')])), [
      'a',
    ])
    for (const name of ['.wh.', '.wh..', '.wh...', 'a/.wh.b/c'])
      assert.throws(() => merge([file(name)]), TarError, name)
  })

  test('a type change replaces the subtree, in one layer and across layers', () => {
    assert.deepEqual(paths(merge([dir('a'), file('a/b')], [file('a')])), ['a'])
    assert.deepEqual(paths(merge([file('a')], [dir('a'), file('a/b')])), ['a', 'a/b'])
    // In one layer: the file took the lower directory away, the directory after it starts empty.
    assert.deepEqual(paths(merge([dir('a'), file('a/lower')], [file('a'), dir('a'), file('a/b')])), ['a', 'a/b'])
  })

  test('directory over directory merges metadata; a directory nobody names keeps what it had', () => {
    const lower = [dir('a', { mode: 0o700, uid: 5, mtimeS: 1 }), file('a/x')]
    assert.equal(find(merge(lower, [dir('a', { mode: 0o711, uid: 6, mtimeS: 2 })]), '/a')?.mode, 0o711)
    const kept = find(merge(lower, [file('a/y')]), '/a')
    assert.deepEqual([kept?.mode, kept?.uid, kept?.mtimeS], [0o700, 5, 1])
    const made = find(merge([{ name: 'm/n/f', mtimeS: 77 }]), '/m')
    assert.deepEqual([made?.kind, made?.mode, made?.uid, made?.mtimeS], ['directory', 0o755, 0, 77])
  })

  test('an entry below a link of a lower layer replaces the link; below one of its own layer it follows it', () => {
    const across = merge([dir('real'), { name: 'link', type: 'symlink', link: 'real' }], [file('link/f')])
    assert.deepEqual(paths(across), ['link', 'link/f', 'real'])
    assert.equal(find(across, '/link')?.kind, 'directory')
    const within = merge([dir('real'), { name: 'link', type: 'symlink', link: '/real' }, file('link/f')])
    assert.deepEqual(paths(within), ['link', 'real', 'real/f'])
  })

  test('links cannot lead out of the tree, nor in circles', () => {
    const climbing = merge([{ name: 'up', type: 'symlink', link: '../../../../etc' }, file('up/passwd')])
    assert.deepEqual(paths(climbing), ['etc', 'etc/passwd', 'up'])
    const circle: Member[] = [
      { name: 'a', type: 'symlink', link: 'b' },
      { name: 'b', type: 'symlink', link: 'a' },
      file('a/f'),
    ]
    assert.throws(() => merge(circle), /more than 40 symbolic links/)
    const growing: Member[] = [{ name: 'g', type: 'symlink', link: 'x/'.repeat(1_500) }, file(`g/${'y/'.repeat(700)}f`)]
    assert.throws(() => merge(growing), /longer than 4096/)
  })

  test('hard links share an inode across layers; the others keep the content when one name is replaced', () => {
    const layers: Member[][] = [
      [file('a', 'one'), { name: 'b', type: 'hardlink', link: 'a' }],
      [{ name: 'c', type: 'hardlink', link: './a' }],
      [file('a', 'two')],
    ]
    const root = merge(...layers)
    const archives = layers.map(archive)
    assert.equal(find(root, '/b'), find(root, '/c'))
    assert.notEqual(find(root, '/a'), find(root, '/b'))
    assert.match(listing(root, archives).b ?? '', /"one"/)
    assert.match(listing(root, archives).a ?? '', /"two"/)
  })

  test('a hard link to a directory, to nothing or out of the tree is refused', () => {
    const link = (target: string): Member => ({ name: 'l', type: 'hardlink', link: target })
    assert.throws(() => merge([dir('d'), link('d')]), /which is a directory/)
    assert.throws(() => merge([dir('d')], [link('d')]), /which is a directory/)
    assert.throws(() => merge([link('missing')]), /not there/)
    assert.throws(() => merge([link('../x')]), /"\.\." part/)
    assert.throws(() => merge([link('/')]), /which is a directory/)
  })

  test('merging agrees with a model that overlays paths one by one', () => {
    fc.assert(
      fc.property(fc.array(fc.array(actionArbitrary, { maxLength: 12 }), { minLength: 1, maxLength: 4 }), stack => {
        let model: ReadonlyMap<string, ModelNode> = new Map()
        const layers: Member[][] = []
        for (const [i, actions] of stack.entries()) {
          const { members, result } = modelLayer(model, actions, i)
          layers.push(members)
          model = result
        }
        const root = merge(...layers)
        const groups = new Map<Node, number>()
        for (const { path, node } of walk(root)) {
          const expected = model.get(path)
          assert.ok(expected, `${path} is there, the model has it not`)
          assert.equal(node.kind, expected.is, path)
          assert.equal(node.mode, expected.mode, path)
          if (node.kind === 'file') {
            assert.equal(groups.get(node) ?? expected.id, expected.id, path)
            groups.set(node, expected.id)
          }
        }
        assert.equal(
          paths(root).length,
          model.size,
          `missing: ${[...model.keys()].filter(p => !paths(root).includes(p))}`,
        )
        assert.equal(new Set(groups.values()).size, groups.size, 'one node per file, however many names')
      }),
      { numRuns: 2_000 },
    )
  })
})

test('nodes made for missing parents count against the bound', () => {
  const deep = archive([file('a/b/c/d/e/f')])
  assert.doesNotThrow(() => mergeLayers([deep], 6))
  assert.throws(() => mergeLayers([deep], 5), /more files and directories/)
})

test('extended attributes: what is kept, and how much', () => {
  const root = merge([
    {
      name: 'f',
      pax: {
        'SCHILY.xattr.user.a': '1',
        'SCHILY.xattr.security.capability': '\x01\x00\x00\x02',
        'SCHILY.xattr.trusted.overlay.opaque': 'y',
        'SCHILY.xattr.system.nfs4_acl': 'x',
      },
    },
  ])
  assert.deepEqual([...(find(root, '/f')?.xattrs?.keys() ?? [])], ['user.a', 'security.capability'])
  assert.throws(() => merge([{ name: 'f', pax: { 'SCHILY.xattr.user.a': 'x'.repeat(4_095) } }]), /at most 4096/)
})

test('what the writer writes, the reader reads back as the same tree, twice the same bytes', () => {
  const name = fc.oneof(
    fc.string({ unit: 'grapheme', minLength: 1, maxLength: 60 }),
    fc.uint8Array({ minLength: 1, maxLength: 200 }).map(bytes => Buffer.from(bytes).toString('latin1')),
  )
  const cleanName = name
    .map(n => Buffer.from(n, 'utf8').toString('latin1').replace(/[/\0]/g, '_').slice(0, 255))
    .filter(n => n !== '' && !/^(\.\.?$|\.wh\.)/.test(n))
  const id = fc.oneof(fc.nat(70_000), fc.integer({ min: 0, max: 2 ** 32 - 2 }))
  const inode = fc.record({
    mode: fc.nat(0o7777),
    uid: id,
    gid: id,
    mtimeS: fc.integer({ min: -(2 ** 40), max: 2 ** 40 }),
    mtimeNs: fc.oneof(fc.constant(0), fc.nat(999_999_999)),
    xattrs: fc.oneof(
      fc.constant(undefined),
      fc.uint8Array({ minLength: 1, maxLength: 40 }).map(v => new Map([['user.k', Buffer.from(v)]])),
    ),
  })
  const body = fc.nat(1_500).map(n => Buffer.alloc(n, 'body'))
  const { node } = fc.letrec<{ node: Node; directory: Directory }>(tie => ({
    node: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc
        .tuple(inode, body)
        .map(([i, bytes]): Node => ({ kind: 'file', ...i, size: bytes.length, body: { in: 'memory', bytes } })),
      fc.tuple(inode, cleanName).map(([i, target]): Node => ({ kind: 'symlink', ...i, target })),
      fc
        .tuple(inode, fc.nat(0xfff), fc.nat(0xfffff))
        .map(([i, major, minor]): Node => ({ kind: 'char', ...i, major, minor })),
      inode.map((i): Node => ({ kind: 'fifo', ...i })),
      tie('directory'),
    ),
    directory: fc.tuple(inode, fc.dictionary(cleanName, tie('node'), { maxKeys: 5 })).map(([i, children]) => ({
      kind: 'directory',
      ...i,
      children: new Map(Object.entries(children)),
      marks: undefined,
    })),
  }))
  const write = (root: Directory) =>
    Buffer.concat(
      [...tarPieces(root)].map(piece =>
        'bytes' in piece ? piece.bytes : piece.body.body.in === 'memory' ? piece.body.body.bytes : Buffer.alloc(0),
      ),
    )
  fc.assert(
    fc.property(node, fc.boolean(), (top, linked) => {
      const root: Directory = newDirectory(0o755, { s: 5, ns: 0 })
      root.children.set('top', top)
      if (linked && top.kind !== 'directory') root.children.set('zz', top)
      const data = write(root)
      const again = mergeLayers([data])
      for (const { node: read } of walk(again))
        if (read.kind === 'file' && read.body.in === 'layer') {
          const { offset } = read.body
          read.body = { in: 'memory', bytes: data.subarray(offset, offset + read.size) }
        }
      assert.deepEqual(normal(again), normal(root))
      assert.deepEqual(write(again), data)
    }),
    { numRuns: 300 },
  )
})

/** A tree as plain lines for comparison. */
function normal(root: Directory) {
  const names = new Map<Node, string>()
  return [...walk(root)].map(({ path, node }) => {
    const first = names.get(node)
    names.set(node, first ?? path)
    const { mode, uid, gid, mtimeS, mtimeNs, xattrs } = node
    const own =
      node.kind === 'file' && node.body.in === 'memory'
        ? node.body.bytes.toString('hex')
        : node.kind === 'symlink'
          ? node.target
          : node.kind === 'char' || node.kind === 'block'
            ? [node.major, node.minor]
            : ''
    return [
      path,
      first,
      node.kind,
      mode,
      uid,
      gid,
      mtimeS,
      mtimeNs,
      [...(xattrs ?? [])].map(([k, v]) => [k, v.toString('hex')]),
      own,
    ]
  })
}
