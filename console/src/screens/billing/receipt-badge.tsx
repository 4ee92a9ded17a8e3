import { useState } from 'react'
import { fetchEvidence, getIssuerKey, getReceipt } from '../../api/billing-invoices.ts'
import { serviceUrl } from '../../api/service-url.ts'
import { leavesMax } from '../../billing/merkle.ts'
import { checkEvidence, checkReceipt, type ReceiptCheck } from '../../billing/receipt.ts'
import { asApiError, useResource } from '../../live/use-resource.ts'
import { Command, CopyButton } from '../../parts/copy.tsx'
import { Dialog } from '../../parts/dialog.tsx'
import { Icon } from '../../parts/icon.tsx'
import { formatCount } from '../../units/counts.ts'

const checkWords: Record<ReceiptCheck['name'], string> = {
  content: 'Its content is what was hashed',
  signature: 'The hash is signed by this platform',
  evidence: 'Its hours are those that were signed',
  arithmetic: 'Every amount is its division, and the lines sum to what is due',
}

/** The receipt of an invoice, checked here in the browser. */
export function ReceiptBadge({ invoiceId }: { invoiceId: string }) {
  const [isOpen, setIsOpen] = useState(false)
  const [evidence, setEvidence] = useState<ReceiptCheck | 'checking' | string | null>(null)
  const receipt = useResource(`receipt ${invoiceId}`, async signal => {
    const [found, { publicKey }] = await Promise.all([getReceipt(invoiceId, signal), getIssuerKey(signal)])
    return { found, checks: await checkReceipt(found, publicKey) }
  })
  if (receipt.error && receipt.data === null)
    return (
      <span className="chip" data-tone="warn" title={receipt.error.message}>
        no receipt
      </span>
    )
  if (receipt.data === null) return <span className="chip">checking the receipt…</span>
  const { found } = receipt.data
  const hasEvidence = evidence !== null && typeof evidence === 'object'
  const checks = hasEvidence ? [...receipt.data.checks, evidence] : receipt.data.checks
  const lookAtEvidence = () => {
    setEvidence('checking')
    fetchEvidence(invoiceId)
      .then(lines => checkEvidence(found, lines))
      .then(setEvidence)
      .catch(cause => setEvidence(asApiError(cause).message))
  }
  const verdict = checks.some(({ holds }) => holds === false)
    ? { tone: 'bad', word: 'Receipt does not hold' }
    : checks.every(({ holds }) => holds === true)
      ? { tone: 'good', word: 'Receipt holds' }
      : { tone: 'warn', word: 'Receipt not checked' }
  const { receipt: body } = found
  return (
    <>
      <button
        type="button"
        className="chip badge"
        data-tone={verdict.tone}
        aria-haspopup="dialog"
        onClick={() => setIsOpen(true)}
        data-testid="receipt-badge"
      >
        <Icon name={verdict.tone === 'good' ? 'seal' : 'alert'} size={13} />
        {verdict.word}
      </button>
      {isOpen && (
        <Dialog title={`Receipt #${body.seq}`} onClose={() => setIsOpen(false)}>
          <ul className="checks">
            {checks.map(({ name, holds, detail }) => (
              <li key={name} data-holds={holds} data-testid={`check-${name}`}>
                <Icon name={holds === true ? 'check' : holds === false ? 'close' : 'alert'} size={14} />
                <div>
                  <b>{checkWords[name]}</b>
                  <span className="hash">
                    {holds === null ? 'Cannot be told here. ' : ''}
                    {detail}
                  </span>
                </div>
              </li>
            ))}
          </ul>
          {!hasEvidence && body.evidence.leaves <= leavesMax && (
            <p>
              <button
                type="button"
                className="button small"
                onClick={lookAtEvidence}
                disabled={evidence === 'checking'}
                data-testid="check-evidence-now"
              >
                {evidence === 'checking'
                  ? 'Hashing…'
                  : `Check the ${formatCount(body.evidence.leaves)} lines of evidence, too`}
              </button>
              {typeof evidence === 'string' && evidence !== 'checking' && <span className="quiet"> {evidence}</span>}
            </p>
          )}
          <dl className="facts receipt-facts">
            <Hash name="Chained to" value={body.prevHash} />
            <Hash name={`Evidence, ${formatCount(body.evidence.leaves)} lines`} value={body.evidence.root} />
            <Hash name="Signed by" value={body.publicKey} />
          </dl>
          <p className="quiet">Prices and readings are done again, without this platform, by:</p>
          <Command
            text={`curl -s ${serviceUrl('billaged')}/v1/invoices/${invoiceId}/receipt \\
  -H "Authorization: Bearer $BILLAGED_API_KEY" > receipt.json
bin/billaged-cli verify receipt.json -public-key '${body.publicKey}'`}
          />
        </Dialog>
      )}
    </>
  )
}

function Hash({ name, value }: { name: string; value: string }) {
  return (
    <div className="wide">
      <dt>{name}</dt>
      <dd className="hash">
        <code>{value}</code>
        <CopyButton text={value} label={`Copy: ${name}`} />
      </dd>
    </div>
  )
}
