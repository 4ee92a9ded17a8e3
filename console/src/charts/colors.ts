// A canvas needs real colours, while ours are custom properties that follow the theme. A hidden element lets the browser
// resolve any CSS colour expression, color-mix() included.

let probe: HTMLElement | null = null

export function resolveColor(expression: string): string {
  if (!probe) {
    probe = document.createElement('i')
    probe.hidden = true
    document.body.append(probe)
  }
  probe.style.color = expression
  return getComputedStyle(probe).color
}

export function faded(expression: string, percent: number): string {
  return resolveColor(`color-mix(in srgb, ${expression} ${percent}%, transparent)`)
}
