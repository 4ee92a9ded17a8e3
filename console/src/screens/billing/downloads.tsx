import { useState } from 'react'
import { type DocumentFormat, documentFormats, fetchDocument, type Invoice } from '../../api/billing-invoices.ts'
import { asApiError } from '../../live/use-resource.ts'
import { Icon } from '../../parts/icon.tsx'

/** The stored documents, byte for byte. Fetched first, so that a refusal is a sentence here and no broken file. */
export function Downloads({ invoice }: { invoice: Invoice }) {
  const [problem, setProblem] = useState('')
  const [busy, setBusy] = useState<DocumentFormat | null>(null)

  async function download(format: DocumentFormat): Promise<void> {
    setBusy(format)
    setProblem('')
    try {
      save(await fetchDocument(invoice.id, format), `${invoice.number ?? invoice.id}.${format}`)
    } catch (cause) {
      setProblem(asApiError(cause).message)
    } finally {
      setBusy(null)
    }
  }

  return (
    // biome-ignore lint/a11y/useSemanticElements: buttons that act at once are no form
    <div className="downloads" role="group" aria-label="Download">
      <Icon name="download" size={14} />
      {documentFormats.map(format => (
        <button
          key={format}
          type="button"
          className="link"
          disabled={busy !== null}
          onClick={() => download(format)}
          data-testid={`download-${format}`}
        >
          {format.toUpperCase()}
        </button>
      ))}
      {problem && (
        <span className="problem" role="alert">
          {problem}
        </span>
      )}
    </div>
  )
}

function save(blob: Blob, name: string): void {
  const url = URL.createObjectURL(blob)
  const link = document.createElement('a')
  link.href = url
  link.download = name
  link.click()
  // The browser has begun to read it; after a minute nobody needs the address any more.
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}
