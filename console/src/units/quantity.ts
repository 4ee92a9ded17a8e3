import { formatBytes } from './bytes.ts'
import { formatCount } from './counts.ts'
import { formatDuration } from './duration.ts'
import { formatMoney } from './money.ts'

// Usage quantities arrive as whole base units in decimal strings (ns, byte-ns, bytes, events). They are divided once,
// here, for the eye; rating happens in billaged on the base units.

const nsPerHour = 3_600_000_000_000n
const gib = 1_073_741_824n

/** `34.219 core-h`, `12.1 GiB-h`, `1.2 GiB`, `12,480` */
export function formatQuantity(quantity: string, unit: string, meter = ''): string {
  if (!/^-?\d{1,40}$/.test(quantity)) return quantity
  const value = BigInt(quantity)
  switch (unit) {
    case 'ns':
      return `${decimal(value, nsPerHour)} ${meter.includes('cpu') ? 'core-h' : 'h'}`
    case 'ms':
      // Below ten minutes the span itself says more than a decimal of the minute that is billed.
      return value < 600_000n ? formatDuration(Number(value)) : `${decimal(value, 60_000n)} min`
    case 's':
      return `${decimal(value, 3600n)} h`
    case 'byte-ns':
    case 'byte_ns':
    case 'byteNs':
      return `${decimal(value, nsPerHour * gib)} GiB-h`
    case 'byte-s':
    case 'byte_s':
    case 'byte_seconds':
      return `${decimal(value, 3600n * gib)} GiB-h`
    case 'bytes':
    case 'byte':
    case 'By':
      return formatBytes(value)
    case 'nano_usd':
    case 'nanoUsd':
    case 'nano':
      return formatMoney(value)
    default:
      return formatCount(value)
  }
}

/** `n ÷ per` with three decimals, fewer when they are noise. */
function decimal(n: bigint, per: bigint): string {
  const abs = n < 0n ? -n : n
  const digits = abs >= 1000n * per ? 0 : abs >= 10n * per ? 1 : 3
  const scale = 10n ** BigInt(digits)
  const rounded = (abs * scale + per / 2n) / per
  const whole = formatCount(rounded / scale)
  const fraction = digits === 0 ? '' : `.${(rounded % scale).toString().padStart(digits, '0')}`
  return `${n < 0n ? '−' : ''}${whole}${fraction}`
}
