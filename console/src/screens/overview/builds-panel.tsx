import { type Build, listBuilds } from '../../api/builderd.ts'
import { useNow } from '../../live/clock.ts'
import { useResource } from '../../live/use-resource.ts'
import { Empty } from '../../parts/empty.tsx'
import { Icon } from '../../parts/icon.tsx'
import { Loaded, Panel } from '../../parts/panel.tsx'
import { Link } from '../../router/navigation.tsx'
import { formatRelative } from '../../units/time.ts'
import { BuildChip, BuildProgress, isUnderWay } from '../builds/state.tsx'

const shown = 6

export function BuildsPanel() {
  const builds = useResource('recent builds', signal => listBuilds({ limit: shown }, signal), 3_000)
  const running = builds.data?.builds.filter(isUnderWay).length ?? 0
  return (
    <Panel
      className="builds-panel"
      title={
        <Link to={{ screen: 'builds', build: '', tenant: '' }}>
          Builds <Icon name="chevron" size={12} />
        </Link>
      }
      aside={running > 0 ? `${running} running` : undefined}
      testId="builds-panel"
    >
      <Loaded resource={builds}>
        {({ builds: list }) =>
          list.length === 0 ? (
            <Empty title="No builds yet" command="bin/builderd-cli create-build alpine:3.20 --wait">
              Turn a container image into a bootable root filesystem:
            </Empty>
          ) : (
            <ul className="build-list">
              {list.slice(0, shown).map(build => (
                <BuildItem key={build.buildId} build={build} />
              ))}
            </ul>
          )
        }
      </Loaded>
    </Panel>
  )
}

function BuildItem({ build }: { build: Build }) {
  const nowMs = useNow()
  return (
    <li data-testid="build-row">
      <Link to={{ screen: 'builds', build: build.buildId, tenant: build.tenantId }} className="build-item">
        <span className="build-image ellipsis" title={build.image}>
          {build.name || build.image}
        </span>
        <BuildChip state={build.state} />
        <span className="quiet ellipsis">
          {build.tenantId} ·{' '}
          {isUnderWay(build)
            ? build.currentStep || 'waiting'
            : formatRelative(Date.parse(build.completedAt ?? build.createdAt), nowMs)}
        </span>
        <BuildProgress build={build} />
      </Link>
    </li>
  )
}
