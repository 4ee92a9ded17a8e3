// What the kit needs of node:test's context, so that programs outside of it can use the same parts.

export interface Cleanup {
  /** Runs at the end, in the order of registration. */
  after(fn: () => void | Promise<void>): void
}

export interface Skippable extends Cleanup {
  /** Says loudly what was not tried, and why. */
  skip(reason: string): void
}
