import { useWindowVirtualizer } from '@tanstack/react-virtual'
import { type ReactNode, useLayoutEffect, useRef, useState } from 'react'

/** Rows beyond the screen that are there already when they come into it. */
const overscan = 20

/** A long list of which only what is on the screen is in the document. Rows may be of any height, and change it. */
export function VirtualRows<T>(o: {
  items: readonly T[]
  keyOf: (item: T) => string
  /** Pixels, until a row was seen. */
  heightGuess: number
  children: (item: T) => ReactNode
}) {
  const list = useRef<HTMLDivElement>(null)
  const [top, setTop] = useState(0)
  useLayoutEffect(() => {
    if (list.current) setTop(list.current.getBoundingClientRect().top + window.scrollY)
  })
  const rows = useWindowVirtualizer({
    count: o.items.length,
    estimateSize: () => o.heightGuess,
    getItemKey: index => {
      const item = o.items[index]
      return item === undefined ? index : o.keyOf(item)
    },
    overscan,
    scrollMargin: top,
  })
  return (
    <div ref={list} className="virtual-rows" style={{ height: `${rows.getTotalSize()}px` }}>
      {rows.getVirtualItems().map(({ key, index, start }) => {
        const item = o.items[index]
        return (
          item !== undefined && (
            <div
              key={key}
              ref={rows.measureElement}
              data-index={index}
              style={{ transform: `translateY(${start - top}px)` }}
            >
              {o.children(item)}
            </div>
          )
        )
      })}
    </div>
  )
}
