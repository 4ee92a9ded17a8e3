/** What people call the seeded meters; any other meter goes by its own slug. */
const labels: Record<string, string> = {
  vm_cpu: 'VM CPU',
  vm_memory: 'VM memory',
  vm_memory_peak: 'VM memory peak',
  vm_disk_read: 'VM disk read',
  vm_disk_write: 'VM disk written',
  vm_net_rx: 'VM received',
  vm_net_tx: 'VM sent',
  vm_alive: 'VM time',
  build_ms: 'Build time',
  build_count: 'Builds',
  build_pull_bytes: 'Pulled',
  artifact_byte_seconds: 'Artifact storage',
  log_bytes: 'Log volume',
  log_entries: 'Log entries',
  ai_cost: 'AI cost',
  ai_tokens: 'AI tokens',
  ai_requests: 'AI calls',
}

export function meterLabel(meter: string): string {
  return labels[meter] ?? meter
}
