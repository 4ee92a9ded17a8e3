import type { CallStatus } from '../../../../services/budgetguard/api.ts'

const words: Record<CallStatus, string> = { success: 'ok', blocked: 'refused', failed: 'failed' }
const tones: Record<CallStatus, string> = { success: 'good', blocked: 'warn', failed: 'bad' }

export function StatusChip({ status, reason }: { status: CallStatus; reason: string | null }) {
  return (
    <span className="chip" data-tone={tones[status]} title={reason ?? undefined}>
      {words[status]}
    </span>
  )
}
