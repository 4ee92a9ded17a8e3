import './style/tokens.css'
import './style/base.css'
import './style/shell.css'
import './style/parts.css'
import './style/charts.css'
import './style/screens.css'
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
