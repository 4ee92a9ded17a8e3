import { useSyncExternalStore } from 'react'

// System by default; a choice is kept in this browser and applied by public/assets/theme.js before the first paint.

export const themes = ['system', 'light', 'dark'] as const
export type Theme = (typeof themes)[number]

const listeners = new Set<() => void>()
const storageKey = 'purser.theme'
const darkQuery = matchMedia('(prefers-color-scheme: dark)')
darkQuery.addEventListener('change', announce)

export function useTheme(): Theme {
  return useSyncExternalStore(subscribe, currentTheme)
}

/** What is really on the screen. Charts draw on a canvas, which does not follow CSS by itself. */
export function useIsDark(): boolean {
  return useSyncExternalStore(subscribe, () =>
    currentTheme() === 'system' ? darkQuery.matches : currentTheme() === 'dark',
  )
}

export function chooseTheme(theme: Theme): void {
  if (theme === 'system') delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
  try {
    if (theme === 'system') localStorage.removeItem(storageKey)
    else localStorage.setItem(storageKey, theme)
  } catch {
    // Without storage the choice lasts until the page is closed.
  }
  announce()
}

function currentTheme(): Theme {
  const chosen = document.documentElement.dataset.theme
  return chosen === 'light' || chosen === 'dark' ? chosen : 'system'
}

function subscribe(listener: () => void): () => void {
  listeners.add(listener)
  return () => listeners.delete(listener)
}

function announce(): void {
  for (const listener of listeners) listener()
}
