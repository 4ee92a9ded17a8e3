import { readFileSync } from 'node:fs'
import { formatDecimal, parseDecimal } from '../decimal.ts'
import { builtInMeters } from '../events/meter.ts'
import { examplePlan, type PlanVersion, type Price, versionSchema } from '../rating/plan.ts'
import { type MeterUsage, ratePeriod } from '../rating/rate.ts'
import { chargeTitle, displayUnit, priceAmount, priceText, quantityText, unitNamed } from '../rating/units.ts'
import { unitOf } from '../usage/rows.ts'
import { type Flags, UsageError } from './args.ts'

/** What usage would cost under a plan that is a file: nothing running, nothing sent. A whole period is rated. */
export function simulate(flags: Flags, [path, ...words]: readonly string[]): number {
  if (path === undefined || words.length === 0)
    throw new UsageError('billaged-cli simulate plan.json vm_cpu=120core-hours ai_cost{provider=openai}=12.5 …')
  const { version, currency } = readPlan(path)
  const usage = words.map(parseUsage)
  const period = { from: 0, to: 720 }
  const segment = { segment: period, plan: { id: 'simulated', version: 0 }, version, usage }
  const { lines, unrated, totalNano } = ratePeriod(period, [segment])
  if (flags.json) {
    const view = {
      currency,
      totalNano: `${totalNano}`,
      lines: lines.map(line => ({
        priceId: line.priceId,
        meter: line.meter,
        model: line.model,
        quantity: formatDecimal(line.quantityE9),
        amountNano: `${line.amountNano}`,
      })),
      unrated: unrated.map(({ meter, group, quantityE9 }) => ({ meter, group, quantity: formatDecimal(quantityE9) })),
    }
    process.stdout.write(`${JSON.stringify(view, null, 2)}\n`)
  } else {
    const rows = lines.map(line => {
      const price = version.prices.find(({ id }) => id === line.priceId) ?? null
      const title = line.kind === 'minimum' ? 'To the minimum commitment' : chargeTitle(line.meter, line.priceId)
      const text = price === null ? '' : priceText(price, currency, baseUnit(line.meter ?? ''))
      return [
        title,
        line.meter === null ? '' : quantity(line.meter, line.quantityE9, price),
        priceAmount(line.amountNano),
        text,
      ]
    })
    rows.push(['Total', '', priceAmount(totalNano), ''])
    const widths = [0, 1, 2].map(i => Math.max(...rows.map(row => row[i]?.length ?? 0)))
    for (const [title = '', used = '', amount = '', text = ''] of rows) {
      const left = `${title.padEnd(widths[0] ?? 0)}  ${used.padStart(widths[1] ?? 0)}`
      process.stdout.write(`${left}  ${currency} ${amount.padStart(widths[2] ?? 0)}  ${text}`.trimEnd().concat('\n'))
    }
    for (const { meter, quantityE9 } of unrated)
      process.stdout.write(`unrated: ${quantity(meter, quantityE9, null)} of ${meter}\n`)
  }
  // As a close would be blocked.
  return unrated.length > 0 ? 3 : 0
}

function quantity(meter: string, quantityE9: bigint, price: Price | null): string {
  const per = price !== null && 'per' in price ? price.per : null
  return quantityText(quantityE9, displayUnit(meter, baseUnit(meter), per), 6)
}

function readPlan(path: string): { version: PlanVersion; currency: string } {
  if (path === 'example') return { version: versionSchema.parse(examplePlan.version), currency: examplePlan.currency }
  const value: unknown = JSON.parse(readFileSync(path, 'utf8'))
  const { currency = 'USD', ...body } = Object(value)
  const parsed = versionSchema.safeParse({ effectiveFrom: '2000-01-01T00:00:00Z', ...body })
  if (parsed.success) return { version: parsed.data, currency: String(currency) }
  const [issue] = parsed.error.issues
  throw new UsageError(`${path} is no plan version: ${issue?.path.join('.')}: ${issue?.message}`)
}

/** `vm_cpu=120core-hours`, `ai_cost{provider=openai,model=m}=5`; without a unit it is in the meter's own. */
function parseUsage(word: string): MeterUsage {
  const match = /^([a-z0-9_]{1,63})(?:\{([^}]*)\})?=(-?\d+(?:\.\d+)?)\s*([A-Za-z-]*)$/.exec(word)
  if (match === null) throw new UsageError(`${word}: write METER=NUMBER, such as vm_cpu=120core-hours`)
  const [, meter = '', groups = '', digits = '', unitName = ''] = match
  const valueE9 = parseDecimal(digits)
  if (valueE9 === null) throw new UsageError(`${word}: ${digits} has more than 9 digits behind the point`)
  const unit = unitName === '' ? 1n : unitNamed(meter, baseUnit(meter), unitName)
  if (unit === null) throw new UsageError(`${word}: ${meter} is not counted in ${unitName}`)
  const pairs = groups === '' ? [] : groups.split(',').map(pair => pair.split('='))
  return {
    meter,
    group: Object.fromEntries(pairs.map(([key = '', value = '']) => [key, value])),
    quantityE9: valueE9 * unit,
  }
}

function baseUnit(meter: string): string {
  return builtInMeters.find(({ slug }) => slug === meter)?.unit ?? unitOf(meter, [])
}
