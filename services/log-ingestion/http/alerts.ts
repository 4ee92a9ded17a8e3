// CRUD /api/v1/alerts, POST /api/v1/alerts/preview, POST /api/v1/alerts/:id/test, GET /api/v1/alerts/:id/timeline

import { randomUUID } from 'node:crypto'
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { rfc3339 } from '#platform/time'
import type { AlertPreviewAnswer, AlertTestAnswer, AlertTimelineAnswer } from '../api.ts'
import { badParameter, notFound, webhookMissing } from '../errors.ts'
import { CountIncomplete, gridAt, windowCounts } from '../rules/alert-series.ts'
import { freshStanding, step, verdictOf } from '../rules/alert-state.ts'
import { settleMs, webhookSecret } from '../rules/alerts.ts'
import { type AlertDefinition, alertDefinition, parseSpan } from '../rules/definitions.ts'
import { payloadOf } from '../rules/payloads.ts'
import type { WebhookSender } from '../rules/webhook.ts'
import { loadDeliveries, loadEvents, loadStandings } from '../store/rules/alerts.ts'
import { findRule, type StoredRule } from '../store/rules/rules.ts'
import { type Asker, authorize } from './caller.ts'
import { withReads, withSql } from './context.ts'
import { addRuleRoutes, idOf, objectOf, parseInput, type RuleContext } from './rule-routes.ts'

export interface AlertContext extends RuleContext {
  webhookKey: Buffer
  sender: WebhookSender
}

const previewMs = 7 * 86_400_000
const previewTimeoutMs = 30_000
const seriesPointsMax = 1_000
const firedMax = 1_000

export function addAlerts(app: FastifyInstance, context: AlertContext): void {
  const { clock } = context

  app.post('/api/v1/alerts/preview', async request => {
    const { tenant, caller } = authorize(context.access, request, 'logs:read')
    // A rule as it would be sent; its name changes nothing.
    const { name: _, ...definition } = objectOf(request.body)
    return await context.gate.run(caller.key, () => preview(tenant, parseInput(alertDefinition, definition)))
  })

  const preview = async (tenant: string, definition: AlertDefinition): Promise<AlertPreviewAnswer> => {
    const everyMs = parseSpan(definition.every)
    const forMs = parseSpan(definition.for)
    const lastMs = gridAt(definition, clock.now() - settleMs)
    const firstMs = gridAt(definition, lastMs - previewMs) + everyMs
    const steps = (lastMs - firstMs) / everyMs + 1
    const seriesEvery = Math.ceil(steps / seriesPointsMax)
    const answer: AlertPreviewAnswer = {
      from: rfc3339(firstMs),
      to: rfc3339(lastMs),
      fired: [],
      firing: 0,
      series: [],
      complete: true,
    }
    let standing = freshStanding(firstMs - everyMs)
    let index = 0
    const window = { tenant, definition, firstMs, lastMs, timeoutMs: previewTimeoutMs, now: () => clock.monotonicMs() }
    try {
      await withReads(context, async store => {
        for await (const counts of windowCounts(store, window))
          for (const { atMs, current, previous } of counts) {
            const verdict = verdictOf(definition, current, previous)
            const next = step(standing, atMs, verdict, forMs)
            if (next.notice === 'firing') {
              answer.firing++
              if (answer.fired.length < firedMax)
                answer.fired.push({ from: rfc3339(atMs), to: null, value: verdict.value })
            }
            const open = answer.fired.at(-1)
            if (next.notice === 'ok' && open?.to === null) open.to = rfc3339(atMs)
            standing = next.standing
            if (index++ % seriesEvery === 0) answer.series.push({ time: rfc3339(atMs), value: verdict.value })
          }
      })
    } catch (error) {
      if (!(error instanceof CountIncomplete)) throw error
      answer.complete = false
    }
    return answer
  }

  app.post('/api/v1/alerts/:id/test', async (request): Promise<AlertTestAnswer> => {
    const { tenant } = authorize(context.access, request, 'logs:admin')
    const { rule, definition } = await mustFind(tenant, request)
    const { webhook } = definition
    if (!webhook) throw webhookMissing()
    const id = randomUUID()
    const body = payloadOf({
      id,
      tenant,
      rule: { id: String(rule.id), name: rule.name, definition },
      state: 'firing',
      previous: 'ok',
      atMs: clock.now(),
      firingSinceMs: clock.now(),
      value: String(Math.max(1, definition.threshold ?? 0)),
      isTest: true,
    })
    const startedMs = clock.monotonicMs()
    const secret = webhookSecret(context.webhookKey, tenant, rule.id)
    const { status, problem } = await context.sender.send({ id, url: webhook.url, body, secret }, clock.now())
    const tookMs = Math.round(clock.monotonicMs() - startedMs)
    return { id, delivered: problem === null, status, ...(problem === null ? {} : { problem }), took_ms: tookMs }
  })

  app.get('/api/v1/alerts/:id/timeline', async (request): Promise<AlertTimelineAnswer> => {
    const { tenant } = authorize(context.access, request, 'logs:read')
    const { rule } = await mustFind(tenant, request)
    return await withSql(context, async sql => ({
      events: (await loadEvents(sql, rule.id, 500)).map(({ at, ...event }) => ({ at: at.toISOString(), ...event })),
      deliveries: (await loadDeliveries(sql, rule.id, 100)).map(({ createdAt, ...delivery }) => ({
        ...delivery,
        created_at: createdAt.toISOString(),
      })),
    }))
  })

  const mustFind = async (
    tenant: string,
    request: FastifyRequest,
  ): Promise<{ rule: StoredRule; definition: AlertDefinition }> => {
    const id = idOf(request)
    const rule = id === undefined ? undefined : await withSql(context, sql => findRule(sql, 'alert_rules', tenant, id))
    const parsed = alertDefinition.safeParse(rule?.definition)
    if (!rule) throw notFound(`There is no alert rule ${(request.params as { id: string }).id.slice(0, 40)}.`)
    if (!parsed.success) throw badParameter('id', 'the rule was written by another version of the program; replace it')
    return { rule, definition: parsed.data }
  }

  const more = async (rules: readonly StoredRule[], { caller, tenant }: Asker): Promise<Map<bigint, object>> => {
    const standings = await withSql(context, sql =>
      loadStandings(
        sql,
        rules.map(rule => rule.id),
      ),
    )
    return new Map(
      rules.map(({ id }) => {
        const standing = standings.get(id)?.standing
        return [
          id,
          {
            state: standing?.state ?? 'ok',
            since: standing ? rfc3339(standing.sinceMs) : null,
            value: standing?.value ?? null,
            evaluated_to: standing ? rfc3339(standing.evaluatedToMs) : null,
            ...(caller.scopes.has('logs:admin')
              ? { webhook_secret: webhookSecret(context.webhookKey, tenant, id) }
              : {}),
          },
        ]
      }),
    )
  }

  addRuleRoutes(app, context, {
    path: 'alerts',
    kind: 'alert_rules',
    noun: 'alert rule',
    countMax: 200,
    schema: alertDefinition,
    show: (definition, asker) => (asker?.caller.scopes.has('logs:admin') ? definition : withoutAddress(definition)),
    more,
  })
}

/** The path of such an address is often the credential. */
function withoutAddress(definition: AlertDefinition): AlertDefinition {
  const { webhook } = definition
  return webhook ? { ...definition, webhook: { ...webhook, url: `${new URL(webhook.url).origin}/…` } } : definition
}
