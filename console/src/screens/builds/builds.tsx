import './builds.css'
import { useState } from 'react'
import { type Build, listBuilds } from '../../api/builderd.ts'
import { useNow } from '../../live/clock.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded } from '../../parts/panel.tsx'
import { Link, navigate } from '../../router/navigation.tsx'
import type { Route } from '../../router/route.ts'
import { formatBytes } from '../../units/bytes.ts'
import { formatCount } from '../../units/counts.ts'
import { formatDuration } from '../../units/duration.ts'
import { formatMoment, formatRelative, parseMoment } from '../../units/time.ts'
import { BuildDetail } from './build-detail.tsx'
import { NewBuild } from './new-build.tsx'
import { BuildChip, BuildProgress, isUnderWay } from './state.tsx'

type BuildsRoute = Extract<Route, { screen: 'builds' }>

const listed = 100

export function Builds({ route }: { route: BuildsRoute }) {
  const builds = useResource(`builds`, signal => listBuilds({ limit: listed }, signal), 2_000)
  const [isCreating, setIsCreating] = useState(false)
  const chosen = builds.data?.builds.find(({ buildId }) => buildId === route.build) ?? null
  return (
    <div className="screen builds">
      <header className="screen-head">
        <h1>Builds</h1>
        <div className="screen-actions">
          <button type="button" className="button primary" onClick={() => setIsCreating(true)} data-testid="new-build">
            <Icon name="plus" size={14} />
            New build
          </button>
        </div>
      </header>
      {route.build && builds.data && !chosen && (
        <section className="panel">
          <Empty title="No such build">
            <code>{route.build}</code> is not among the newest {listed}, or was deleted.
          </Empty>
        </section>
      )}
      {chosen && <BuildDetail key={chosen.buildId} build={chosen} onChange={builds.reload} />}
      <section className="panel" data-testid="builds">
        <Loaded resource={builds}>
          {({ builds: list, total }) =>
            list.length === 0 ? (
              <Empty title="No builds yet" command="bin/builderd-cli create-build alpine:3.20 --wait">
                Name a container image and get a root filesystem that boots. Here, or in a terminal:
              </Empty>
            ) : (
              <>
                <table className="table builds-table">
                  <thead>
                    <tr>
                      <th>Image</th>
                      <th>State</th>
                      <th className="c-sm">Tenant</th>
                      <th className="c-md">Started</th>
                      <th className="number c-md">Took</th>
                      <th className="number c-sm">Size</th>
                    </tr>
                  </thead>
                  <tbody>
                    {list.map(build => (
                      <BuildRow key={build.buildId} build={build} isHere={build.buildId === route.build} />
                    ))}
                  </tbody>
                </table>
                {total > list.length && (
                  <p className="panel-note quiet">
                    The newest {formatCount(list.length)} of {formatCount(total)}.
                  </p>
                )}
              </>
            )
          }
        </Loaded>
      </section>
      {isCreating && (
        <NewBuild
          onClose={() => setIsCreating(false)}
          onCreated={build => {
            builds.reload()
            navigate({ screen: 'builds', build, tenant: '' })
          }}
        />
      )}
    </div>
  )
}

function BuildRow({ build, isHere }: { build: Build; isHere: boolean }) {
  const nowMs = useNow()
  const created = parseMoment(build.createdAt)
  return (
    <tr data-testid="build-row" data-here={isHere || undefined}>
      <td className="ellipsis main">
        <Link
          to={{ screen: 'builds', build: build.buildId, tenant: '' }}
          aria-current={isHere ? 'true' : undefined}
          title={build.buildId}
        >
          {build.image}
        </Link>
        {build.name && <span className="hint">{build.name}</span>}
      </td>
      <td className="build-state">
        <BuildChip state={build.state} />
        <BuildProgress build={build} />
      </td>
      <td className="c-sm ellipsis">{build.tenantId}</td>
      <td className="c-md quiet" title={created === null ? undefined : formatMoment(created)}>
        {created === null ? '–' : formatRelative(created, nowMs)}
      </td>
      <td className="number c-md">{tookText(build, nowMs)}</td>
      <td className="number c-sm">
        {build.rootfsSizeBytes === '0' || build.rootfsSizeBytes === ''
          ? '–'
          : formatBytes(BigInt(build.rootfsSizeBytes))}
      </td>
    </tr>
  )
}

export function tookText(build: Build, nowMs: number): string {
  const [started, completed] = [parseMoment(build.startedAt), parseMoment(build.completedAt)]
  if (started === null) return '–'
  // Running time, without the wait in the queue and without retries in between.
  if (completed !== null) return formatDuration(Number(build.runningMs))
  return isUnderWay(build) ? formatDuration(Math.max(0, nowMs - started)) : '–'
}
