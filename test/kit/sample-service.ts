// The smallest service there is, run as a child process by the lifecycle tests.

import { bool, defineConfig, duration, port, secret, setting } from '#platform/config'
import { closeHttp, createHealth, createHttp, listen } from '#platform/http'
import { runMain, startSequence } from '#platform/lifecycle'

const spec = defineConfig({
  service: 'sample',
  prefixes: ['SAMPLE_'],
  file: { format: 'yaml' },
  settings: {
    port: setting(port, { env: 'PORT', yaml: 'port', default: '0', doc: 'TCP port.' }),
    closeDelay: setting(duration, { env: 'CLOSE_DELAY', default: '0s', doc: 'How long stopping takes.' }),
    failStart: setting(bool, { env: 'FAIL_START', default: 'false', doc: 'Refuse to start after the first part.' }),
    key: setting(secret, { env: 'KEY', doc: 'A secret.' }),
  },
})

await runMain({
  spec,
  commands: {
    hello: {
      summary: 'says hello',
      async run(args) {
        process.stdout.write(`hello ${args.join(' ')}\n`)
        return 3
      },
    },
  },
  async start(config, base) {
    const parts = startSequence(base.log)
    parts.onClose('first', async () => base.log.info('first part closed'))
    await parts.add('second', async () => ({
      async close() {
        await new Promise(resolve => setTimeout(resolve, config.closeDelay))
        base.log.info('second part closed')
      },
    }))
    const app = createHttp({ service: 'sample', base, health: createHealth(base) })
    app.get('/crash', async () => setImmediate(() => JSON.parse('{')))
    const { url } = await parts.add('http', async () => {
      if (config.failStart) throw new Error('told not to start')
      return {
        url: await listen(app, { host: '127.0.0.1', port: config.port }),
        close: () => closeHttp(app, { drainMs: 100 }),
      }
    })
    return {
      url,
      close: parts.close,
      async reload(next: typeof config) {
        if (next.failStart) throw new Error('cannot change that while running')
        base.log.info({ closeDelay: next.closeDelay }, 'took the new configuration')
      },
    }
  },
})
