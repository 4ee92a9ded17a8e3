// Kills a real process with SIGKILL, again and again, at points it did not choose.
//
// The program under test prints a line when it has acknowledged something. It is killed as soon as the wanted number of
// lines was seen, while it goes on working; what it printed until then is what it promised.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

export interface Life {
  round: number
  /** Whole lines it printed before it died: its promises. A line cut by the kill is none. */
  lines: string[]
}

/**
 * Starts `script` once a round and kills it after `linesBeforeKill(round)` lines. `afterDeath` sees each life when the
 * process is gone, checks what it left behind, and may clean up for the next.
 */
export async function kill9(o: {
  script: URL
  args?: readonly string[]
  rounds: number
  linesBeforeKill: (round: number) => number
  afterDeath: (life: Life) => Promise<void>
}): Promise<void> {
  for (let round = 0; round < o.rounds; round++) {
    const wanted = o.linesBeforeKill(round)
    await o.afterDeath({ round, lines: await liveOnce(fileURLToPath(o.script), o.args ?? [], wanted) })
  }
}

async function liveOnce(script: string, args: readonly string[], wanted: number): Promise<string[]> {
  const child = spawn(process.execPath, [script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const stderr: Buffer[] = []
  child.stderr.on('data', chunk => stderr.push(chunk))
  const exited = new Promise<void>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve()
      else reject(new Error(`${script} ended by itself (${code ?? signal}):\n${Buffer.concat(stderr)}`))
    })
  })
  const lines: string[] = []
  let rest = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const parts = (rest + text).split('\n')
    rest = parts.pop() ?? ''
    lines.push(...parts)
    if (lines.length >= wanted) child.kill('SIGKILL')
  })
  await exited
  return lines
}

/** `--rounds N` on the command line or PURSER_ROUNDS=N, for a night's run; otherwise the few that a test run affords. */
export function roundsWanted(few: number): number {
  const at = process.argv.indexOf('--rounds')
  const text = at >= 0 ? process.argv[at + 1] : process.env.PURSER_ROUNDS
  const rounds = Number(text ?? few)
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`rounds is ${text}; give a whole number from 1`)
  return rounds
}
