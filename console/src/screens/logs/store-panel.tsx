import { useState } from 'react'
import { getStorage, type StorageAnswer, type VerifiedDay, verifyChain } from '../../api/logs.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { formatBytes } from '../../units/bytes.ts'
import { formatCount } from '../../units/counts.ts'

const sinkLabels = { rows: 'Rows of the logs table', columnar: 'Packed blocks' } as const

/** Where entries are, what they cost, and whether they are still what was stored. */
export function StorePanel() {
  const storage = useResource('log storage', getStorage, 30_000)
  const [checked, setChecked] = useState<{ days: VerifiedDay[]; problem: string } | 'running' | null>(null)
  const verify = async () => {
    setChecked('running')
    try {
      setChecked({ days: await verifyChain(), problem: '' })
    } catch (error) {
      setChecked({ days: [], problem: asApiError(error).message })
    }
  }
  return (
    <Panel
      title="Store"
      actions={
        <button
          type="button"
          className="button small"
          disabled={checked === 'running'}
          title="Recomputes every hash, link and signature of what is stored"
          onClick={() => void verify()}
          data-testid="verify"
        >
          <Icon name="check" size={14} />
          {checked === 'running' ? 'Verifying…' : 'Verify'}
        </button>
      }
      testId="store"
    >
      {checked !== null && checked !== 'running' && <Verdict days={checked.days} problem={checked.problem} />}
      <Loaded resource={storage}>
        {({ sinks }) => {
          const used = sinks.filter(({ rows }) => rows !== '0')
          return used.length === 0 ? (
            <Empty title="Nothing is stored yet">Sizes appear here.</Empty>
          ) : (
            <Sinks sinks={used} />
          )
        }}
      </Loaded>
    </Panel>
  )
}

function Sinks({ sinks }: StorageAnswer) {
  return (
    <table className="table">
      <thead>
        <tr>
          <th>Kept as</th>
          <th className="number">Entries</th>
          <th className="number">Size</th>
          <th className="number">Bytes per entry</th>
          <th className="number c-md">Compression</th>
          <th className="number c-md">Parts</th>
          <th className="c-sm">Oldest day</th>
        </tr>
      </thead>
      <tbody>
        {sinks.map(({ sink, rows, bytes, raw_bytes, partitions, blocks, oldest_day }) => (
          <tr key={sink} data-testid="store-row">
            <td>{sinkLabels[sink]}</td>
            <td className="number" title={sink === 'rows' ? 'The server’s estimate' : undefined}>
              {sink === 'rows' ? '≈ ' : ''}
              {formatCount(BigInt(rows))}
            </td>
            <td className="number" title="Indexes included">
              {formatBytes(BigInt(bytes))}
            </td>
            <td className="number">{(Number(bytes) / Number(rows)).toFixed(0)}</td>
            <td className="number c-md" title="Text of messages and metadata against all that is on disk for it">
              {raw_bytes === null || Number(bytes) === 0 ? '–' : `${(Number(raw_bytes) / Number(bytes)).toFixed(1)} ×`}
            </td>
            <td className="number c-md">
              {sink === 'columnar' ? `${formatCount(blocks)} blocks` : `${formatCount(partitions)} partitions`}
            </td>
            <td className="c-sm quiet">{oldest_day ?? '–'}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

function Verdict({ days, problem }: { days: readonly VerifiedDay[]; problem: string }) {
  const broken = days.find(day => day.broken)
  const rows = days.reduce((sum, day) => sum + BigInt(day.rows), 0n)
  const dates = new Set(days.map(({ day }) => day)).size
  const text =
    problem !== ''
      ? problem
      : broken?.broken
        ? `${broken.tenant}, ${broken.day}: ${broken.broken.at} does not hold: ${broken.broken.problem}`
        : days.length === 0
          ? 'There is no evidence yet: blocks leave it, and commits to the logs table when CHAIN is on.'
          : `All holds: ${formatCount(rows)} entries of ${formatCount(dates)} ${dates === 1 ? 'day' : 'days'}, every hash, link and signature recomputed.`
  const isGood = problem === '' && !broken
  return (
    <p className="verdict" data-tone={isGood ? 'good' : 'bad'} role="status" data-testid="verdict">
      <Icon name={isGood ? 'check' : 'alert'} size={14} />
      {text}
    </p>
  )
}
