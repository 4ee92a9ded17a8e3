import { type ConfigOf, count, defineConfig, setting } from '#platform/config'

export const spec = defineConfig({
  service: 'purser',
  prefixes: ['PURSER_'],
  settings: {
    portOffset: setting(count.between(0, 60_000), {
      env: 'PORT_OFFSET',
      default: '0',
      doc: 'Added to every port, so that several instances can share a machine.',
    }),
  },
  // Read by parts of ours that are not the supervisor.
  alsoKnown: ['PURSER_REDIS_URL', 'PURSER_TEST_DATABASE_URL', 'PURSER_TEST_LOG', 'PURSER_TEST_ROUNDS'],
})

export type Config = ConfigOf<typeof spec>
