import { type RefObject, useEffect, useRef } from 'react'

/** In a row of links that scrolls, the one that is open is in sight: on a phone it may be the eighth of nine. */
export function useCurrentInView<T extends HTMLElement>(current: string): RefObject<T | null> {
  const row = useRef<T>(null)
  // biome-ignore lint/correctness/useExhaustiveDependencies: another link is current, and the row is drawn anew
  useEffect(() => {
    const [frame, link] = [row.current, row.current?.querySelector<HTMLElement>('[aria-current="page"]')]
    if (!frame || !link || frame.scrollWidth <= frame.clientWidth) return
    const left = link.getBoundingClientRect().left - frame.getBoundingClientRect().left + frame.scrollLeft
    // Not scrollIntoView: that would move the page, too.
    frame.scrollLeft = left - (frame.clientWidth - link.offsetWidth) / 2
  }, [current])
  return row
}
