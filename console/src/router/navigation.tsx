import { type AnchorHTMLAttributes, type MouseEvent, useSyncExternalStore } from 'react'
import { formatRoute, parseRoute, type Route } from './route.ts'

// The browser's history is the only state; this file only tells React when it moved.

const listeners = new Set<() => void>()
let current = read()

addEventListener('popstate', announce)

export function useRoute(): Route {
  return useSyncExternalStore(subscribe, () => current.route)
}

/** Replace keeps the back button useful while someone types a query or flips a switch. */
export function navigate(route: Route, how: 'push' | 'replace' = 'push'): void {
  const address = formatRoute(route)
  if (address === current.address) return
  history[how === 'push' ? 'pushState' : 'replaceState'](null, '', address)
  const next = parseRoute(location.pathname, '')
  // Another page of the same screen: its top is what one wants to see, too.
  const isPage = next.screen === 'billing' && location.pathname !== current.address.split('?')[0]
  const hasMoved = isPage || next.screen !== current.route.screen
  announce()
  if (how === 'push' && hasMoved) scrollTo(0, 0)
}

type LinkProps = Omit<AnchorHTMLAttributes<HTMLAnchorElement>, 'href'> & { to: Route }

/** A real link: middle click, copy address and "open in new tab" work. */
export function Link({ to, onClick, ...rest }: LinkProps) {
  const open = (event: MouseEvent<HTMLAnchorElement>) => {
    onClick?.(event)
    const isOurs = event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey
    if (event.defaultPrevented || !isOurs) return
    event.preventDefault()
    navigate(to)
  }
  return <a {...rest} href={formatRoute(to)} onClick={open} />
}

function read() {
  return { address: location.pathname + location.search, route: parseRoute(location.pathname, location.search) }
}

function announce(): void {
  current = read()
  for (const listener of listeners) listener()
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}
