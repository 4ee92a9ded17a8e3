// What the guest will run: the image's own configuration with the request's laid over it.

import type { ImageConfig } from './manifest.ts'

/** As a request carries it; empty means "as the image says". */
export interface RuntimeOverrides {
  command: readonly string[]
  entrypoint: readonly string[]
  workingDir: string
  environment: Readonly<Record<string, string>>
  exposedPorts: readonly string[]
}

export const noOverrides: RuntimeOverrides = {
  command: [],
  entrypoint: [],
  workingDir: '',
  environment: {},
  exposedPorts: [],
}

export interface Runtime {
  /** Entrypoint and command joined; never empty. */
  argv: readonly string[]
  workingDir: string
  env: Readonly<Record<string, string>>
  exposedPorts: readonly string[]
}

const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** A non-empty entrypoint replaces the image's and drops its command, as `docker run --entrypoint` does. */
export function effectiveRuntime(image: ImageConfig, overrides: RuntimeOverrides): Runtime {
  const replaces = overrides.entrypoint.length > 0
  const entrypoint = replaces ? overrides.entrypoint : image.entrypoint
  const command = overrides.command.length > 0 ? overrides.command : replaces ? [] : image.command
  const argv = [...entrypoint, ...command]
  return {
    argv: argv.length > 0 ? argv : ['/bin/sh'],
    workingDir: overrides.workingDir || image.workingDir || '/',
    env: { PATH: defaultPath, ...envOf(image.env), ...overrides.environment },
    exposedPorts:
      overrides.exposedPorts.length > 0 ? plainPorts(overrides.exposedPorts) : plainPorts(image.exposedPorts),
  }
}

/** `K=V` entries; the last one of a name counts, one without "=" is a name with nothing in it. */
export function envOf(entries: readonly string[]): Record<string, string> {
  // Through a map, because a name like __proto__ is not special in a guest.
  const env = new Map<string, string>()
  for (const entry of entries) {
    const equals = entry.indexOf('=')
    if (equals === 0 || entry === '') continue
    env.set(equals < 0 ? entry : entry.slice(0, equals), equals < 0 ? '' : entry.slice(equals + 1))
  }
  return Object.fromEntries(env)
}

/** Sorted, `/tcp` dropped because it goes without saying; other protocols stay. */
export function plainPorts(ports: readonly string[]): readonly string[] {
  const plain = ports.map(port => port.replace(/\/tcp$/, ''))
  return [...new Set(plain)].sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10) || (a < b ? -1 : 1))
}
