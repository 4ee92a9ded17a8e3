// Minor units of ISO 4217. Ours and not ICU's: an invoice must not change with the runtime's tables.

const digitsOf: Readonly<Record<string, number>> = Object.fromEntries([
  ...'BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF'.split(' ').map(code => [code, 0]),
  ...'BHD IQD JOD KWD LYD OMR TND'.split(' ').map(code => [code, 3]),
  ...'CLF UYW'.split(' ').map(code => [code, 4]),
])

/** Nano-units in one minor unit: 10⁷ for cents. */
export function nanoPerMinor(currency: string): bigint {
  return 10n ** BigInt(9 - minorDigits(currency))
}

/** Digits behind the decimal point that can be paid. */
export function minorDigits(currency: string): number {
  return digitsOf[currency] ?? 2
}

/** 1234 minor units of USD as 12.34. */
export function formatMinor(minor: bigint, currency: string): string {
  const digits = minorDigits(currency)
  const text = `${minor < 0n ? -minor : minor}`.padStart(digits + 1, '0')
  const whole = text.slice(0, text.length - digits)
  return `${minor < 0n ? '-' : ''}${whole}${digits === 0 ? '' : `.${text.slice(-digits)}`}`
}
