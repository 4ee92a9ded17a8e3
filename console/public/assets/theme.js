// The theme chosen in Settings, applied before the first paint. Kept in step with src/theme.ts.
try {
  const theme = localStorage.getItem('purser.theme')
  if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
} catch {
  // Storage may be forbidden; the system theme is then the right one.
}
