import './json-tree.css'
import { useState } from 'react'
import { Icon } from '../parts/icon.tsx'

type Scalar = string | number | boolean | null
export type OnFilter = (name: string, value: Scalar, negate: boolean) => void

/** Members shown before "… more": a metadata object of a megabyte must not become a million elements. */
const membersMax = 200
const depthMax = 40

/** Metadata, coloured by type. Each scalar offers "filter for" and "filter out" under its path. */
export function JsonTree({ value, onFilter }: { value: Record<string, unknown>; onFilter?: OnFilter }) {
  return (
    <div className="json">
      <Members value={value} path="" depth={0} onFilter={onFilter} />
    </div>
  )
}

interface NodeProps {
  value: unknown
  path: string
  depth: number
  onFilter: OnFilter | undefined
}

function Members({ value, path, depth, onFilter }: NodeProps) {
  const [isAll, setIsAll] = useState(false)
  const isArray = Array.isArray(value)
  const members = Object.entries(value ?? {})
  const shown = isAll ? members : members.slice(0, membersMax)
  return (
    <ul>
      {shown.map(([name, child]) => (
        <li key={name}>
          <Member
            name={name}
            value={child}
            // Arrays match by any element, so an element is filtered under the array's own name.
            path={isArray ? path : path ? `${path}.${name}` : name}
            depth={depth}
            isIndex={isArray}
            onFilter={onFilter}
          />
        </li>
      ))}
      {shown.length < members.length && (
        <li>
          <button type="button" className="link" onClick={() => setIsAll(true)}>
            {members.length - shown.length} more
          </button>
        </li>
      )}
    </ul>
  )
}

function Member({ name, value, path, depth, isIndex, onFilter }: NodeProps & { name: string; isIndex: boolean }) {
  const [isOpen, setIsOpen] = useState(depth < 2)
  const label = <span className={isIndex ? 'json-index' : 'json-name'}>{name}</span>
  if (typeof value === 'object' && value !== null) {
    const count = Object.keys(value).length
    return (
      <>
        <button type="button" className="json-fold" aria-expanded={isOpen} onClick={() => setIsOpen(!isOpen)}>
          <Icon name="chevron" size={12} />
          {label}
          <span className="json-count">{Array.isArray(value) ? `[${count}]` : `{${count}}`}</span>
        </button>
        {isOpen && depth < depthMax && <Members value={value} path={path} depth={depth + 1} onFilter={onFilter} />}
      </>
    )
  }
  const scalar = value as Scalar
  return (
    <span className="json-row">
      {label}
      <span className={`json-value json-${value === null ? 'null' : typeof value}`}>{JSON.stringify(value)}</span>
      {onFilter && path !== '' && (
        <span className="json-actions">
          <button
            type="button"
            aria-label={`Only entries with this ${path}`}
            title="Filter for this value"
            onClick={() => onFilter(path, scalar, false)}
          >
            <Icon name="filterIn" size={14} />
          </button>
          <button
            type="button"
            aria-label={`Only entries without this ${path}`}
            title="Filter out this value"
            onClick={() => onFilter(path, scalar, true)}
          >
            <Icon name="filterOut" size={14} />
          </button>
        </span>
      )}
    </span>
  )
}
