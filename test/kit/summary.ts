// What is worth a last look after a run: which tests failed, and which files took longest. The report itself has both, far
// apart.

import type { TestsStream } from 'node:test'

const slowestFiles = 10

export interface Summary {
  isSuccess: boolean
  /** Complete when the stream has ended. */
  text(): string
}

export function summarise(stream: TestsStream): Summary {
  const failed: string[] = []
  const files: { file: string; seconds: number }[] = []
  const summary: Summary = {
    isSuccess: false,
    text() {
      files.sort((a, b) => b.seconds - a.seconds)
      const slowest = files.slice(0, slowestFiles).map(f => `${f.seconds.toFixed(1).padStart(7)} s  ${f.file}\n`)
      return `${files.length > 1 ? `\nlongest files:\n${slowest.join('')}` : ''}${
        failed.length > 0 ? `\n${failed.length} failed:\n${failed.join('\n')}\n` : ''
      }`
    },
  }
  stream.on('test:fail', ({ file, line, name, details: { error } }) => {
    // A parent that fails only for its child says nothing new.
    if ('failureType' in error && error.failureType === 'subtestsFailed') return
    failed.push(`✖ ${relative(file)}:${line ?? 1}  ${name}`)
  })
  stream.on('test:summary', ({ file, success, duration_ms }) => {
    if (file === undefined) summary.isSuccess = success
    else files.push({ file: relative(file), seconds: duration_ms / 1_000 })
  })
  return summary
}

const relative = (file: string | undefined) => (file ?? '').replace(`${process.cwd()}/`, '')
