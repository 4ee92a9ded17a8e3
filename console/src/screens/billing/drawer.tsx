import { type ReactNode, useEffect, useRef } from 'react'
import { Icon } from '../../parts/icon.tsx'

interface DrawerProps {
  title: ReactNode
  label: string
  onClose: () => void
  children: ReactNode
}

/** Beside the page and over it: a modal dialog at the right edge, all of the screen on a phone. Escape and a click outside
 *  close it, focus goes back to what opened it. */
export function Drawer({ title, label, onClose, children }: DrawerProps) {
  const ref = useRef<HTMLDialogElement>(null)
  useEffect(() => {
    const dialog = ref.current
    if (dialog && !dialog.open) dialog.showModal()
  }, [])
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: Escape is the dialog's own key
    <dialog
      ref={ref}
      className="drawer"
      aria-label={label}
      onClose={onClose}
      onClick={event => event.target === ref.current && ref.current?.close()}
      data-testid="drawer"
    >
      <div className="drawer-body">
        <header>
          <h2>{title}</h2>
          <button type="button" className="icon-button" aria-label="Close" onClick={() => ref.current?.close()}>
            <Icon name="close" />
          </button>
        </header>
        {children}
      </div>
    </dialog>
  )
}
