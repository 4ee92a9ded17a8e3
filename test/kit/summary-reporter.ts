// What is worth a last look: which tests failed, and which files took longest. node:test's own report has both, far apart.

import type { TestEvent } from 'node:test/reporters'

const slowestFiles = 10

export default async function* summary(events: AsyncIterable<TestEvent>): AsyncGenerator<string> {
  const failed: string[] = []
  const files: { file: string; seconds: number }[] = []
  for await (const { type, data } of events) {
    // A parent that fails only for its child says nothing new.
    if (type === 'test:fail' && !isOnlyChildsFault(data.details.error))
      failed.push(`✖ ${relative(data.file)}:${data.line ?? 1}  ${data.name}`)
    if (type === 'test:summary' && data.file !== undefined)
      files.push({ file: relative(data.file), seconds: data.duration_ms / 1_000 })
  }
  if (files.length > 1) {
    files.sort((a, b) => b.seconds - a.seconds)
    yield '\nlongest files:\n'
    for (const { file, seconds } of files.slice(0, slowestFiles)) yield `${seconds.toFixed(1).padStart(7)} s  ${file}\n`
  }
  if (failed.length > 0) yield `\n${failed.length} failed:\n${failed.join('\n')}\n`
}

function isOnlyChildsFault(error: Error): boolean {
  return 'failureType' in error && error.failureType === 'subtestsFailed'
}

const relative = (file: string | undefined) => (file ?? '').replace(`${process.cwd()}/`, '')
