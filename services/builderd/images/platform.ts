// Platforms: os/architecture[/variant], and which entry of an index answers for one.

import { FieldError, invalidSource } from '../errors.ts'
import type { Descriptor } from './manifest.ts'

export interface Platform {
  os: string
  architecture: string
  variant?: string
}

const architectureOfNode: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', arm64: 'arm64', arm: 'arm' }

/** The platform of micro-VMs on this machine. */
export function hostPlatform(nodeArch: string): Platform {
  return { os: 'linux', architecture: architectureOfNode[nodeArch] ?? nodeArch }
}

/** @throws FieldError */
export function parsePlatform(text: string, field = 'purser.platform'): Platform {
  const match = /^(linux)\/([a-z0-9]{1,32})(?:\/([a-z0-9.]{1,32}))?$/.exec(text)
  if (!match)
    throw new FieldError(field, `${field} "${text.slice(0, 100)}" must be linux/<architecture>, such as linux/amd64`)
  const [, os = '', architecture = '', variant] = match
  return variant === undefined ? { os, architecture } : { os, architecture, variant }
}

export function formatPlatform(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant].filter(part => part !== undefined).join('/')
}

/** The manifest of an index that fits; the first one, as registries put the preferred variant first. */
export function selectManifest(manifests: readonly Descriptor[], wanted: Platform, name: string): Descriptor {
  const images = manifests.filter(isImage)
  const found = images.find(m => m.platform && fits(m.platform, wanted))
  if (found) return found
  const offered = images.map(m => (m.platform ? formatPlatform(m.platform) : 'unnamed')).slice(0, 20)
  throw invalidSource(
    `${name} has no image for ${formatPlatform(wanted)}; it offers ${offered.join(', ') || 'none'}. Choose one with the label purser.platform.`,
  )
}

export function fits(offered: Platform, wanted: Platform): boolean {
  if (offered.os !== wanted.os || offered.architecture !== wanted.architecture) return false
  return wanted.variant === undefined || defaultVariant(offered) === defaultVariant(wanted)
}

/** `arm64` without a variant means v8, `arm` means v7. */
function defaultVariant(platform: Platform): string | undefined {
  if (platform.variant !== undefined) return platform.variant
  if (platform.architecture === 'arm64') return 'v8'
  return platform.architecture === 'arm' ? 'v7' : undefined
}

/** Attestations and other by-products live in the same index under an unknown platform. */
function isImage(descriptor: Descriptor): boolean {
  return (
    !descriptor.isAttestation &&
    descriptor.platform?.os !== 'unknown' &&
    descriptor.platform?.architecture !== 'unknown'
  )
}
