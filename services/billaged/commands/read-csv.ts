/** RFC 4180: rows of cells. Lines may end either way; a quote inside a plain cell is a letter. */
export function readCsv(text: string): string[][] {
  const rows: string[][] = []
  let row: string[] = []
  const source = text.replace(/^\ufeff/, '')
  const cell = /"((?:[^"]|"")*)"|([^,\r\n]*)/y
  for (let at = 0; at < source.length; ) {
    cell.lastIndex = at
    const [whole = '', quoted, plain] = cell.exec(source) ?? []
    row.push(quoted?.replaceAll('""', '"') ?? plain ?? '')
    at += whole.length
    if (source[at] === ',') {
      at++
      if (at === source.length) row.push('')
      continue
    }
    if (at < source.length && source[at] !== '\r' && source[at] !== '\n')
      throw new Error(`row ${rows.length + 1}: a quoted cell goes on with ${JSON.stringify(source.slice(at, at + 20))}`)
    at += source.startsWith('\r\n', at) ? 2 : 1
    if (row.some(value => value !== '')) rows.push(row)
    row = []
  }
  if (row.length > 0) rows.push(row)
  return rows
}
