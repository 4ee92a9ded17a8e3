import { formatPercent } from '../units/counts.ts'

/** How full something is. From three quarters it warns, from nine tenths it is critical. */
export function FillBar({ share, label }: { share: number; label: string }) {
  const width = Math.min(1, Math.max(0, share))
  return (
    // biome-ignore lint/a11y/useSemanticElements: browsers draw <meter> each in their own way
    <div
      className="budget-bar"
      data-state={share >= 0.9 ? 'critical' : share >= 0.75 ? 'warning' : 'calm'}
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={Math.round(width * 100)}
      aria-valuetext={`${formatPercent(share)} full`}
      title={formatPercent(share)}
    >
      <i className="spent" style={{ width: `${width * 100}%` }} />
    </div>
  )
}
