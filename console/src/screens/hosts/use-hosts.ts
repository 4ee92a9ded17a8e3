import { listServices } from '../../api/budgetguard.ts'
import { useResource } from '../../live/use-resource.ts'

const collectorPath = /^\/console\/collectors\/(\d{1,4})$/

/** The five services and every collector, as budgetguard last saw them. Shared by all panels through its key. */
export function useServices() {
  return useResource('services', listServices, 10_000)
}

/** Which `/console/collectors/<n>` a service entry stands for; null for anything else. */
export function collectorIndex(path: string): number | null {
  const match = collectorPath.exec(path)
  return match ? Number(match[1]) : null
}
