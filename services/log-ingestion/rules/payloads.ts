// What a webhook is sent, in the words of whoever listens.

import { rfc3339 } from '#platform/time'
import type { Announced } from './alert-state.ts'
import { type AlertDefinition, parseSpan } from './definitions.ts'

export interface Notice {
  /** Of the delivery. */
  id: string
  tenant: string
  rule: { id: string; name: string; definition: AlertDefinition }
  state: Announced
  previous: Announced
  /** End of the window that decided; Unix ms. */
  atMs: number
  /** Since when the rule fires; for alertmanager, whose alerts have a beginning. */
  firingSinceMs: number | null
  value: string | null
  isTest: boolean
}

export function payloadOf(notice: Notice): string {
  const { format = 'purser' } = notice.rule.definition.webhook ?? {}
  switch (format) {
    case 'purser':
      return JSON.stringify(purser(notice))
    case 'slack':
      return JSON.stringify({ text: slackText(notice) })
    case 'alertmanager':
      return JSON.stringify(alertmanager(notice))
    default:
      return format satisfies never
  }
}

function purser({ id, tenant, rule, state, previous, atMs, value, isTest }: Notice): object {
  const { webhook: _, enabled: __, ...definition } = rule.definition
  return {
    id,
    type: 'log.alert',
    test: isTest,
    tenant,
    rule: { id: rule.id, name: rule.name, ...definition },
    state,
    previous,
    at: rfc3339(atMs),
    window: { from: rfc3339(atMs - parseSpan(rule.definition.window)), to: rfc3339(atMs) },
    value,
  }
}

const words: Readonly<Record<Announced, string>> = {
  ok: 'resolved',
  firing: 'FIRING',
  stalled: 'stalled: no verdict for 5 minutes',
}

function slackText({ rule, tenant, state, value, isTest, atMs }: Notice): string {
  const sum = value === null ? '' : `, ${describe(rule.definition, value)}`
  return escapeSlack(
    `${isTest ? '[test] ' : ''}${rule.name} (${tenant}): ${words[state]}${sum}, at ${rfc3339(atMs)}\n${rule.definition.q}`,
  )
}

function escapeSlack(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

export function describe({ kind, window }: AlertDefinition, value: string): string {
  if (kind !== 'rate') return `${value} entries in ${window}`
  return value === 'new'
    ? `entries in ${window} where there were none before`
    : `${value} % against the ${window} before`
}

/** How long Alertmanager holds an alert that nobody ends: an installation that is gone cannot. */
const endsAfterMs = 7 * 86_400_000

/** That a rule is stalled is an alert of its own, beside the one it cannot decide. */
function alertmanager(notice: Notice): object[] {
  const { state, previous } = notice
  return [
    ...(previous === 'stalled' ? [alertOf(notice, ' stalled', notice.atMs, true)] : []),
    state === 'stalled'
      ? alertOf(notice, ' stalled', notice.atMs, false)
      : alertOf(notice, '', notice.firingSinceMs ?? notice.atMs, state === 'ok'),
  ]
}

function alertOf(
  { id, tenant, rule, state, atMs, value, isTest }: Notice,
  suffix: string,
  startMs: number,
  isOver: boolean,
): object {
  return {
    labels: {
      alertname: `${rule.name}${suffix}`,
      tenant,
      rule: rule.id,
      source: 'purser-log-ingestion',
      ...(isTest ? { test: 'true' } : {}),
    },
    annotations: {
      summary: `${rule.name}: ${words[state]}`,
      description: value === null ? rule.definition.q : describe(rule.definition, value),
      query: rule.definition.q,
      delivery: id,
    },
    startsAt: rfc3339(Math.min(startMs, atMs)),
    endsAt: rfc3339(isOver ? atMs : atMs + endsAfterMs),
  }
}
