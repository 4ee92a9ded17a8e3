import type { Build } from '../../api/builderd.ts'

// Words and tones for the states of the wire (BUILD_STATE_…). A running state moves; a last one does not.

interface Look {
  word: string
  tone: 'good' | 'bad' | 'busy' | 'idle'
}

const looks: Record<string, Look> = {
  PENDING: { word: 'queued', tone: 'idle' },
  PULLING: { word: 'pulling', tone: 'busy' },
  EXTRACTING: { word: 'unpacking', tone: 'busy' },
  BUILDING: { word: 'building', tone: 'busy' },
  OPTIMIZING: { word: 'optimizing', tone: 'busy' },
  COMPLETED: { word: 'completed', tone: 'good' },
  FAILED: { word: 'failed', tone: 'bad' },
  CANCELLED: { word: 'cancelled', tone: 'idle' },
  CLEANING: { word: 'cleaning up', tone: 'busy' },
}

export function lookOf(state: string): Look {
  const name = state.replace('BUILD_STATE_', '')
  return looks[name] ?? { word: name.toLowerCase(), tone: 'idle' }
}

/** True while another look later can show something new. */
export function isUnderWay({ state }: Pick<Build, 'state'>): boolean {
  return /(PENDING|PULLING|EXTRACTING|BUILDING|OPTIMIZING|CLEANING)$/.test(state)
}

export function BuildChip({ state }: { state: string }) {
  const { word, tone } = lookOf(state)
  return (
    <span className="chip" data-tone={tone} data-testid="build-state">
      {word}
    </span>
  )
}

export function BuildProgress({ build }: { build: Pick<Build, 'state' | 'progressPercent' | 'currentStep'> }) {
  if (!isUnderWay(build) || build.state.endsWith('PENDING')) return null
  return (
    <div
      className="progress"
      role="progressbar"
      aria-label={build.currentStep || 'Build progress'}
      aria-valuemin={0}
      aria-valuemax={100}
      aria-valuenow={build.progressPercent}
    >
      <i style={{ width: `${Math.min(100, Math.max(2, build.progressPercent))}%` }} />
    </div>
  )
}
