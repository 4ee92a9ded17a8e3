// The one connection to Redis: what replicas tell each other and nobody misses for ever. Never the only copy of anything,
// so nothing waits for it: while it is away commands fail at once, and whoever asked goes on alone.
//
//   away → up        connected and answering
//   up → away        refused, cut, or silent for longer than an answer may take; tried again with back-off, for ever

import { Redis } from 'ioredis'
import type { HealthCheck } from '#platform/http'
import type { Logger } from '#platform/telemetry'

export interface SharedRedis {
  /** Rejects at once while away, and after `answerMs` at the latest. Keys are prefixed with the namespace. */
  readonly client: Redis
  readonly isUp: boolean
  status(): HealthCheck
  /** False: not sent, Redis is away or behind. True promises nothing either. */
  publish(channel: string, message: Buffer): boolean
  /** Survives reconnects; `onBegin` is called whenever messages begin to come, so after each gap too. */
  subscribe(channel: string, onMessage: (message: Buffer) => void, onBegin?: () => void): { close(): void }
  close(): Promise<void>
}

/** Longer and it is as good as away. */
const answerMs = 500
const connectMs = 2_000
const retryMsMax = 2_000
/** A connection that died without a word is noticed within this and `answerMs`. */
const pingEveryMs = 2_000
export const publishedBytesMax = 8 * 1024 * 1024

/** `namespace` keeps installations apart that share one Redis. */
export function createRedis(url: string, log: Logger, o: { namespace: string }): SharedRedis {
  const prefix = `purser:logs:${o.namespace}:`
  const options = {
    // No queue of what could not be sent: a limit or a line of a tail that is late is of no use.
    enableOfflineQueue: false,
    maxRetriesPerRequest: 0,
    autoResubscribe: false,
    connectTimeout: connectMs,
    commandTimeout: answerMs,
    socketTimeout: answerMs,
    keepAlive: 10_000,
    retryStrategy: (times: number) => Math.min(retryMsMax, 50 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2),
  }
  const client = new Redis(url, { ...options, keyPrefix: prefix, connectionName: 'log-ingestion' })
  let subscriber: Redis | undefined
  const listeners = new Map<string, Set<{ onMessage: (message: Buffer) => void; onBegin?: () => void }>>()
  let problem = 'not connected yet'
  let since = new Date().toISOString()
  let wasUp: boolean | undefined
  let publishedBytes = 0

  const turned = (isUp: boolean) => {
    if (wasUp === isUp) return
    wasUp = isUp
    since = new Date().toISOString()
    if (isUp) log.info('Redis answers: limits and tails are shared by the replicas')
    else log.warn({ problem }, 'Redis is away: limits are shares by the last known number of replicas')
  }
  client.on('error', error => {
    problem = error.message
  })
  client.on('ready', () => turned(true))
  client.on('close', () => turned(false))

  const follow = (connection: Redis) => {
    // What is wrong with it is wrong with the other too, which says so.
    connection.on('error', () => {})
    connection.on('ready', () => {
      for (const channel of listeners.keys()) begin(connection, channel)
    })
    connection.on('messageBuffer', (channel: Buffer, message: Buffer) => {
      for (const listener of listeners.get(channel.toString()) ?? []) listener.onMessage(message)
    })
    return connection
  }
  const begin = (connection: Redis, channel: string) => {
    connection.subscribe(channel).then(
      () => {
        for (const listener of listeners.get(channel) ?? []) listener.onBegin?.()
      },
      // Connected and refused, or cut meanwhile: once more from the start.
      () => connection.disconnect(true),
    )
  }

  const pings = setInterval(() => {
    for (const connection of [client, subscriber]) if (connection?.status === 'ready') connection.ping().catch(() => {})
  }, pingEveryMs)
  pings.unref()

  return {
    client,
    get isUp() {
      return client.status === 'ready'
    },
    status: () =>
      client.status === 'ready' ? { status: 'ok', since } : { status: 'degraded', detail: problem, since },
    publish(channel, message) {
      if (client.status !== 'ready' || publishedBytes + message.length > publishedBytesMax) return false
      publishedBytes += message.length
      const done = () => {
        publishedBytes -= message.length
      }
      client.publish(prefix + channel, message).then(done, done)
      return true
    },
    subscribe(name, onMessage, onBegin) {
      const channel = prefix + name
      const listener = onBegin ? { onMessage, onBegin } : { onMessage }
      const known = listeners.get(channel)
      if (known) known.add(listener)
      else listeners.set(channel, new Set([listener]))
      if (!subscriber) subscriber = follow(new Redis(url, { ...options, connectionName: 'log-ingestion subscriber' }))
      else if (subscriber.status === 'ready') begin(subscriber, channel)
      return {
        close() {
          const all = listeners.get(channel)
          all?.delete(listener)
          if (all?.size !== 0) return
          listeners.delete(channel)
          if (subscriber?.status === 'ready') subscriber.unsubscribe(channel).catch(() => {})
        },
      }
    },
    async close() {
      clearInterval(pings)
      client.removeAllListeners('close')
      client.disconnect()
      subscriber?.disconnect()
    },
  }
}
