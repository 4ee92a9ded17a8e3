// Who serves this page: budgetguard, with everything; or log-ingestion that runs alone, with the log screens, and then what
// they ask for is at this very origin.

export const isLogsAlone =
  typeof document !== 'undefined' &&
  document.querySelector('meta[name="served-by"]')?.getAttribute('content') === 'log-ingestion'
