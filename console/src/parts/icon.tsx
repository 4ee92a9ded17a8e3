// Drawn for this console on a 16-pixel grid with a 1.5-pixel line, so that they sit level with 13-pixel text.

const paths = {
  overview: 'M2.5 2.5h4.5v6h-4.5zM9 2.5h4.5v3.5H9zM9 8.5h4.5v5H9zM2.5 11h4.5v2.5h-4.5z',
  hosts: 'M2.5 3h11v4h-11zM2.5 9h11v4h-11zM5 5h.01M5 11h.01M8 5h3M8 11h3',
  logs: 'M2.5 3.5h11M2.5 6.5h7M2.5 9.5h9M2.5 12.5h5',
  spend:
    'M8 1.75v12.5M11 4.5C10.5 3.6 9.4 3.2 8 3.2c-1.7 0-3 .8-3 2.2 0 3.2 6.2 1.5 6.2 4.9 0 1.5-1.4 2.4-3.2 2.4-1.6 0-2.8-.6-3.3-1.6',
  billing: 'M3.5 1.75h9v12.5l-2.25-1.5L8 14.25l-2.25-1.5-2.25 1.5zM6 5h4M6 8h4',
  seal: 'M8 1.75 13 3.5v4c0 3.2-2 5.6-5 6.75-3-1.15-5-3.55-5-6.75v-4zM5.6 7.9l1.7 1.7 3.1-3.4',
  download: 'M8 2v8M4.5 6.75 8 10.25l3.5-3.5M2.5 13.5h11',
  builds: 'M8 1.8 13.6 5v6L8 14.2 2.4 11V5zM2.6 5.1 8 8.2l5.4-3.1M8 8.2v5.8',
  settings: 'M2.5 4.5h6M11.5 4.5h2M2.5 11.5h2M7.5 11.5h6M10 3v3M6 10v3',
  more: 'M3.5 8h.01M8 8h.01M12.5 8h.01',
  search: 'M7 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10zM10.7 10.7l3.3 3.3',
  close: 'M3.5 3.5l9 9M12.5 3.5l-9 9',
  check: 'M3 8.5l3.2 3.2L13 4.8',
  copy: 'M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3',
  plus: 'M8 3v10M3 8h10',
  chevron: 'M6 3.5 10.5 8 6 12.5',
  down: 'M3.5 6 8 10.5 12.5 6',
  arrow: 'M3 8h10M9 4l4 4-4 4',
  alert: 'M8 2 14.5 13.5h-13zM8 6.5v3.2M8 11.7h.01',
  plug: 'M5.5 2v3.5M10.5 2v3.5M3.5 5.5h9v2a4.5 4.5 0 0 1-9 0zM8 12v2.5',
  play: 'M5 3l7.5 5L5 13z',
  pause: 'M5.5 3v10M10.5 3v10',
  refresh: 'M13.5 8A5.5 5.5 0 1 1 11.6 3.8M13.5 1.8v3.4h-3.4',
  key: 'M10.2 9.4a3.6 3.6 0 1 0-3.6-3.6c0 .4.1.8.2 1.2L2 11.8V14h2.4v-1.6H6v-1.6h1.6l1.4-1.5c.4.1.8.1 1.2.1zM11 5h.01',
  out: 'M6.5 2.5h-4v11h4M10.5 4.5 14 8l-3.5 3.5M14 8H6',
  sun: 'M8 11a3 3 0 1 0 0-6 3 3 0 0 0 0 6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1.1 1.1M11.9 11.9 13 13M13 3l-1.1 1.1M4.1 11.9 3 13',
  moon: 'M13.5 9.6A6 6 0 0 1 6.4 2.5a6 6 0 1 0 7.1 7.1z',
  system: 'M2 2.5h12v8.5H2zM6 14h4M8 11v3',
  filterIn: 'M7 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10zM10.7 10.7l3.3 3.3M7 5v4M5 7h4',
  filterOut: 'M7 12a5 5 0 1 0 0-10 5 5 0 0 0 0 10zM10.7 10.7l3.3 3.3M5 7h4',
  stop: 'M4 4h8v8H4z',
  trash: 'M2.5 4.5h11M6 4.5v-2h4v2M4 4.5l.6 9h6.8l.6-9M6.7 7v4M9.3 7v4',
} as const

export type IconName = keyof typeof paths

/** Decoration only: the control that holds it carries the label. */
export function Icon({ name, size = 16 }: { name: IconName; size?: number }) {
  return (
    <svg className="icon" width={size} height={size} viewBox="0 0 16 16" aria-hidden="true" focusable="false">
      <path d={paths[name]} />
    </svg>
  )
}

export function Mark({ size = 24 }: { size?: number }) {
  return (
    <svg className="mark" width={size} height={size} viewBox="0 0 32 32" aria-hidden="true" focusable="false">
      <rect className="mark-ground" width="32" height="32" rx="8" />
      <path className="mark-letter" d="M10.2 23.6V8.6h6.6a4.3 4.3 0 0 1 0 8.6h-6.6" />
      <path className="mark-line" d="M15.8 23.6h6.4" />
    </svg>
  )
}
