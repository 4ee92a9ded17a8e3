/** `npm run test:long` asks for everything; `npm test` for enough to notice. */
export const isLong = process.env.PURSER_TEST_LONG === '1'

export function runs(short: number, long: number): number {
  return isLong ? long : short
}
