/** A reply in the form scripts read: a title, indented `Label: value` lines; or the reply alone as JSON. */
export function printResult(
  flags: { json: boolean },
  title: string,
  reply: Record<string, string | boolean>,
  more: Record<string, string | number>,
  vmId?: string,
): void {
  if (flags.json) return void process.stdout.write(`${JSON.stringify(reply, null, 2)}\n`)
  const lines = { ...(vmId === undefined ? {} : { 'VM ID': vmId }), ...reply, ...more }
  const text = Object.entries(lines).map(([label, value]) => `  ${label}: ${value}\n`)
  process.stdout.write(`${title}:\n${text.join('')}`)
}
