// The rules of the house, each with its reason. A rule that stands in the way may be changed here, with a better one.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { dirname, join, matchesGlob, relative } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { docFiles } from '../purser/docs.ts'
import { serviceNames } from '../purser/plan.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (path: string) => readFileSync(join(root, path), 'utf8')
const find = (...patterns: string[]) =>
  patterns
    .flatMap(p => globSync(p, { cwd: root }))
    .filter(p => !p.includes('node_modules') && !p.includes('/dist/'))
    .sort()
const sources = find('{platform,services,purser,bench,test}/**/*.ts', 'console/src/**/*.{ts,tsx}')
const isTest = (path: string) =>
  path.endsWith('.test.ts') || path.startsWith('test/') || path.startsWith('bench/') || /\/test\//.test(path)

interface ArrowRule {
  from: string
  except?: readonly string[]
  /** Resolved paths from the root, or package names; globs. */
  never: readonly string[]
  /** Imports of types are no dependency at run time. */
  unlessTypeOnly?: true
  why: string
}

const arrows: ArrowRule[] = [
  {
    from: 'platform/**',
    never: ['services/**', 'console/**', 'purser/**'],
    why: 'every service stands on the platform; if it leaned on one of them, none could be deployed alone',
  },
  ...serviceNames.map(name => ({
    from: `services/${name}/**`,
    never: [`services/!(${name})/**`, 'purser/**', 'console/**'],
    why: 'services are deployed alone; they talk over the wire',
  })),
  {
    from: 'services/*/*.ts',
    except: ['main.ts', 'service.ts'],
    never: [
      'node:fs',
      'node:fs/promises',
      'node:net',
      'node:http',
      'node:https',
      'node:child_process',
      'node:sqlite',
      'postgres',
      'fastify',
      'undici',
      'services/*/store/**',
      'services/*/http/**',
      'services/*/rpc/**',
    ],
    unlessTypeOnly: true,
    why: 'domain code is tested on millions of cases, which only works without I/O',
  },
  {
    from: 'console/src/**',
    // Money arithmetic is pure and exists once.
    never: ['services/**', 'platform/!(money).ts', 'platform/*/**', 'purser/**', 'node:*'],
    unlessTypeOnly: true,
    why: 'the browser gets the wire types of the services and none of their code',
  },
  {
    from: 'services/metrics-collector/**',
    never: ['fastify', 'zod', 'postgres', 'platform/http.ts', 'platform/postgres.ts'],
    unlessTypeOnly: true,
    why: 'an edge device has 90 MiB for it; the server stack alone costs 20',
  },
]

for (const rule of arrows)
  test(`imports: ${rule.from} never reaches ${rule.never.join(', ')}, because ${rule.why}`, () => {
    const broken = sources
      .filter(
        path => matchesGlob(path, rule.from) && !isTest(path) && !rule.except?.some(name => path.endsWith(`/${name}`)),
      )
      .flatMap(path =>
        importsOf(path)
          .filter(i => !(rule.unlessTypeOnly && i.isTypeOnly))
          .filter(i => rule.never.some(glob => matchesGlob(i.target, glob)))
          .map(i => `${path} imports ${i.target}`),
      )
    assert.deepEqual(broken, [])
  })

function importsOf(path: string): { target: string; isTypeOnly: boolean }[] {
  const found = [
    ...read(path).matchAll(
      /^\s*(?:import|export)\s+(type\s)?[^'"]*?from\s+['"]([^'"]+)['"]|import\(\s*['"]([^'"]+)['"]\s*\)|^\s*import\s+['"]([^'"]+)['"]/gm,
    ),
  ]
  return found.map(([, type, from, dynamic, bare]) => ({
    target: resolveImport(path, from ?? dynamic ?? bare ?? ''),
    isTypeOnly: type !== undefined,
  }))
}

function resolveImport(path: string, specifier: string): string {
  if (specifier.startsWith('#platform/')) return `platform/${specifier.slice('#platform/'.length)}.ts`
  if (specifier.startsWith('#proto/')) return `proto/gen/${specifier.slice('#proto/'.length)}`
  if (specifier.startsWith('.')) return relative(root, join(root, dirname(path), specifier))
  return specifier
}

test('the environment is read in main.ts, lifecycle and the supervisor only: everything else receives typed values', () => {
  const allowed = ['services/*/main.ts', 'services/*/cli.ts', 'platform/lifecycle.ts', 'purser/*.ts']
  const broken = sources.filter(
    path => !isTest(path) && /\bprocess\.env\b/.test(read(path)) && !allowed.some(glob => matchesGlob(path, glob)),
  )
  assert.deepEqual(broken, [])
})

test('files are named after what they hold: no utils, helpers, common, and no index that only passes things on', () => {
  const broken = sources.filter(path => /(^|\/)(utils?|helpers?|common|misc|index)(\/|\.tsx?$)/.test(path))
  assert.deepEqual(broken, [])
})

test('no test is focused or left out by hand', () => {
  const broken = sources.filter(
    path => path.endsWith('.test.ts') && /\b(test|it|describe)\.(only|todo)\(|\b(only|todo): true/.test(read(path)),
  )
  assert.deepEqual(broken, [])
})

test('nothing names this or any machine: no absolute home or work paths, no registry addresses in the lock file', () => {
  const broken = [...sources, ...find('**/*.{md,json,yml,yaml,sh,sql}', 'bin/*')].filter(
    path => !path.endsWith('house-rules.test.ts') && /(^|[\s'"`(=])\/(work|home|Users|root)\/\w/m.test(read(path)),
  )
  assert.deepEqual(broken, [])
  assert.doesNotMatch(read('package-lock.json'), /"resolved": *"https?:/)
})

test('every reason code has a heading in docs/errors.md, and every heading a code', () => {
  const documented = new Set([...read('docs/errors.md').matchAll(/^### ([A-Z][A-Z0-9_]+)$/gm)].map(m => m[1] ?? ''))
  const used = new Map<string, string>()
  for (const path of sources.filter(p => !isTest(p) && !p.startsWith('console/')))
    for (const code of codesOf(path)) used.set(code, path)
  const undocumented = [...used].filter(([code]) => !documented.has(code)).map(([code, path]) => `${code} (${path})`)
  const unused = [...documented].filter(code => !used.has(code))
  assert.deepEqual({ undocumented, unused }, { undocumented: [], unused: [] })
})

/** Codes where they are given to an error, and the lists of them in the files named errors.ts. */
function codesOf(path: string): string[] {
  const text = read(path)
  const given =
    /(?:\breason:\s*|\breason = |\b(?:badRequest|conflict|overloaded|shed)\((?:context,)?\s*)'([A-Z][A-Z0-9_]+)'/g
  const listed = /'([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|INTERNAL)'/g
  return [given, ...(matchesGlob(path, '{services/*,platform/journal}/errors.ts') ? [listed] : [])].flatMap(pattern =>
    [...text.matchAll(pattern)].map(m => m[1] ?? ''),
  )
}

test('generated references in docs/ equal what their schemas say; npm run generate writes them', async () => {
  for (const { path, content } of await docFiles())
    assert.equal(read(path), content, `${path} is stale: npm run generate`)
})

test('each service has its README with the five headings, and a command in bin/', () => {
  for (const name of serviceNames) {
    const readme = read(`services/${name}/README.md`)
    for (const heading of ['Owns', 'Does not own', 'Invariants', 'Limits', 'How to run'])
      assert.match(readme, new RegExp(`^## ${heading}`, 'm'), `services/${name}/README.md lacks "## ${heading}"`)
    assert.match(read(`bin/${name}`), /^#!\/bin\/sh/)
  }
})
