import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { temporaryFolder } from '../test/kit.ts'

const cli = fileURLToPath(new URL('../cli.ts', import.meta.url))

test('billaged-cli simulate prices usage under a plan that is a file, in the units people name', t => {
  const run = (...args: string[]) =>
    execFileSync(process.execPath, ['--disable-warning=ExperimentalWarning', cli, 'simulate', ...args], {
      encoding: 'utf8',
      stdio: 'pipe',
    })
  assert.equal(
    run('example', 'vm_cpu=123.5core-hours', 'vm_net_tx=10GiB', 'vm_memory=3865470566400000000000'),
    [
      'CPU          123.5 core-hours  USD 12.35  USD 0.10 per core-hour',
      'Memory             1 GiB-hour  USD  0.05  USD 0.05 per GiB-hour',
      'Network out            10 GiB  USD  1.50  USD 0.15 per GiB',
      'Total                          USD 13.90',
      '',
    ].join('\n'),
  )
  const plan = join(temporaryFolder(t), 'plan.json')
  const prices = [{ id: 'ai', model: 'cost_plus', meter: 'ai_cost', match: { provider: 'openai' }, markupPpm: 200_000 }]
  writeFileSync(plan, JSON.stringify({ currency: 'EUR', minimumNano: '5000000000', prices }))
  const view = JSON.parse(run(plan, 'ai_cost{provider=openai,model=m}=1000000000', '-json'))
  assert.deepEqual([view.currency, view.totalNano, view.lines[1].model], ['EUR', '5000000000', 'minimum'])
  const fails = (status: number, text: RegExp, ...args: string[]) =>
    assert.throws(
      () => run(...args),
      (error: unknown) => Object(error).status === status && text.test(Object(error).stdout + Object(error).stderr),
    )
  fails(3, /unrated: 5 of ai_cost|unrated: .* of ai_cost/, plan, 'ai_cost{provider=other}=5')
  fails(2, /vm_cpu is not counted in GiB/, plan, 'vm_cpu=5GiB')
  fails(2, /write METER=NUMBER/, plan, 'vm_cpu')
})
