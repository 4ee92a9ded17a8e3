// Text of callers and providers on its way to the ledger: PostgreSQL stores no NUL and no half character.

const charsMax = 256

export function storable(text: string): string {
  return text.slice(0, charsMax).toWellFormed().replaceAll('\0', '\ufffd')
}
