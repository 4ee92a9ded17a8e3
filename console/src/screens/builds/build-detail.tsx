import { useEffect, useRef, useState } from 'react'
import { type Build, type BuildLogLine, cancelBuild, logsAddress } from '../../api/builderd.ts'
import { useNow } from '../../live/clock.ts'
import { asApiError } from '../../live/use-resource.ts'
import { dataOf, useStream } from '../../live/use-stream.ts'
import { levelOf } from '../../logs/levels.ts'
import { CopyButton } from '../../parts/copy.tsx'
import { Failure } from '../../parts/failure.tsx'
import { Icon } from '../../parts/icon.tsx'
import { LiveMark } from '../../parts/live-mark.tsx'
import { Link } from '../../router/navigation.tsx'
import { formatBytes } from '../../units/bytes.ts'
import { formatClockMs, formatMoment, parseMoment } from '../../units/time.ts'
import { tookText } from './builds.tsx'
import { BuildChip, BuildProgress, isUnderWay } from './state.tsx'

/** Lines kept on the page; a build's own log is bounded too. */
const linesMax = 5_000

export function BuildDetail({ build, onChange }: { build: Build; onChange: () => void }) {
  const nowMs = useNow()
  const [problem, setProblem] = useState('')
  const created = parseMoment(build.createdAt)
  const size = build.rootfsSizeBytes
  async function cancel(): Promise<void> {
    setProblem('')
    try {
      await cancelBuild(build.tenantId, build.buildId)
      onChange()
    } catch (cause) {
      setProblem(asApiError(cause).message)
    }
  }
  return (
    <section className="panel build-detail" data-testid="build-detail">
      <header className="panel-head">
        <h2 className="ellipsis">{build.image}</h2>
        <BuildChip state={build.state} />
        <div className="panel-actions">
          {isUnderWay(build) && (
            <button type="button" className="button small" onClick={cancel}>
              <Icon name="stop" size={12} />
              Cancel
            </button>
          )}
          <Link to={{ screen: 'builds', build: '', tenant: '' }} className="icon-button" aria-label="Close the detail">
            <Icon name="close" size={14} />
          </Link>
        </div>
      </header>
      {isUnderWay(build) && (
        <div className="build-progress">
          <BuildProgress build={build} />
          <span className="quiet">
            {build.currentStep || 'Waiting for a free slot'} · {build.progressPercent} %
          </span>
        </div>
      )}
      {problem && (
        <p className="problem" role="alert">
          {problem}
        </p>
      )}
      {build.errorMessage && (
        <p className="problem" role="alert" data-testid="build-error">
          {build.errorMessage}
        </p>
      )}
      <dl className="facts">
        <div className="wide">
          <dt>Build</dt>
          <dd>
            <code>{build.buildId}</code> <CopyButton text={build.buildId} label="Copy the build id" />
          </dd>
        </div>
        <div>
          <dt>Tenant</dt>
          <dd>{build.tenantId}</dd>
        </div>
        <div>
          <dt>Started</dt>
          <dd>{created === null ? '–' : formatMoment(created)}</dd>
        </div>
        <div>
          <dt>Took</dt>
          <dd>{tookText(build, nowMs)}</dd>
        </div>
        {size !== '' && size !== '0' && (
          <div>
            <dt>Root filesystem</dt>
            <dd>{formatBytes(BigInt(size))}</dd>
          </div>
        )}
        {build.rootfsPath && build.rootfsChecksum && (
          <div className="wide">
            <dt>Path</dt>
            <dd>
              <code className="ellipsis">{build.rootfsPath}</code>{' '}
              <CopyButton text={build.rootfsPath} label="Copy the path" />
            </dd>
          </div>
        )}
        {build.rootfsChecksum && (
          <div className="wide">
            <dt>SHA-256</dt>
            <dd>
              <code className="ellipsis">{build.rootfsChecksum}</code>
            </dd>
          </div>
        )}
      </dl>
      <BuildLog build={build} />
    </section>
  )
}

function BuildLog({ build }: { build: Build }) {
  const [lines, setLines] = useState<readonly BuildLogLine[]>([])
  const [isFollowing, setIsFollowing] = useState(true)
  const box = useRef<HTMLOListElement>(null)
  const [isDone, setIsDone] = useState(false)
  const state = useStream('builderd', isDone ? null : logsAddress(build.buildId), event => {
    const line = dataOf<BuildLogLine>(event)
    if (line && typeof line.message === 'string') setLines(before => [...before, line].slice(-linesMax))
  })
  // A finished build's stream ends when all its lines are sent; connecting again would send them again.
  const isOver = !isUnderWay(build)
  useEffect(() => {
    if (isOver && state.status === 'waiting') setIsDone(true)
  }, [isOver, state.status])

  // biome-ignore lint/correctness/useExhaustiveDependencies: every new line moves the end
  useEffect(() => {
    if (isFollowing && box.current) box.current.scrollTop = box.current.scrollHeight
  }, [lines, isFollowing])

  return (
    <div className="build-log">
      <div className="build-log-head">
        <h3>Log</h3>
        {!isOver && <LiveMark state={state} />}
      </div>
      {state.status === 'refused' && <Failure error={state.error} />}
      {lines.length === 0 && state.status !== 'refused' && (
        <p className="quiet">{isDone ? 'This build left no log.' : 'No lines yet.'}</p>
      )}
      {lines.length > 0 && (
        <ol
          ref={box}
          // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region must be reachable by keyboard
          tabIndex={0}
          aria-label="Build log"
          data-testid="build-log"
          onScroll={({ currentTarget: at }) => setIsFollowing(at.scrollHeight - at.scrollTop - at.clientHeight < 24)}
        >
          {lines.map((line, i) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: lines are only ever added at the end
            <li key={i}>
              <time dateTime={line.timestamp}>{formatClockMs(Date.parse(line.timestamp))}</time>
              <span className={`level tone-${levelOf(line.level).tone}`}>{levelOf(line.level).name}</span>
              <span className="log-service">{line.component}</span>
              <span className="log-message">{line.message}</span>
            </li>
          ))}
        </ol>
      )}
    </div>
  )
}
