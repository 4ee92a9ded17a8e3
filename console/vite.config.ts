import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

// Where `npm start` listens. Only the development server needs it: the built console is served by budgetguard itself.
const budgetguardUrl = process.env.PURSER_BUDGETGUARD_URL ?? 'http://127.0.0.1:3000'

export default defineConfig({
  base: '/dashboard/',
  plugins: [react()],
  build: {
    outDir: 'dist',
    // light-dark(), :has() and popover without polyfills: a rewritten light-dark() would no longer follow [data-theme].
    target: ['chrome125', 'firefox129', 'safari18'],
    // A strict Content-Security-Policy refuses data: URIs and inline scripts, so nothing may be inlined.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
  },
  server: {
    proxy: { '/admin': budgetguardUrl, '/console': budgetguardUrl },
  },
})
