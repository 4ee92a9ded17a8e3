import './style/tokens.css'
import './style/base.css'
import './style/shell.css'
import './style/gate.css'
import './style/panel.css'
import './style/control.css'
import './style/dialog.css'
import './style/command.css'
import './style/state.css'
import './style/chip.css'
import './style/bar.css'
import './style/table.css'
import './style/charts.css'
import { StrictMode } from 'react'
import { createRoot } from 'react-dom/client'
import { App } from './app.tsx'

const root = document.getElementById('console')
if (!root) throw new Error('BUG: index.html has no #console element')
createRoot(root).render(
  <StrictMode>
    <App />
  </StrictMode>,
)
