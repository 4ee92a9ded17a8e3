// Text that customers, operators and senders wrote, on its way into HTML, SVG, CSV and PDF. One place for all of them.

const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** For text and quoted attributes of HTML and of SVG (XML takes the same entities). */
export function html(text: string): string {
  return printable(text).replace(/[&<>"']/g, character => entities[character] ?? '')
}

/** A cell that a spreadsheet would take for a formula is marked as text; a plain number is none. Some programs skip
 *  spaces and control characters before they look for the sign. */
export function csvCell(text: string): string {
  const isNumber = /^-?\d+(\.\d+)?$/.test(text)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const safe = !isNumber && /^[\s\u0000-\u001f]*[=+\-@＝＋－＠]|^[\t\r\n]/.test(text) ? `'${text}` : text
  return /[",\r\n';]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

/** One line that looks like what it is: control characters, halves of surrogate pairs and marks that turn the direction
 *  of writing (which make a name read as another) are shown as a replacement character, line ends as spaces. */
export function printable(text: string): string {
  return text
    .toWellFormed()
    .replace(/[\t\r\n\u2028\u2029]+/g, ' ')
    .replace(unprintable, '\ufffd')
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const unprintable = /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]/g
