// Temperatures, fans, voltages, clock rates and batteries from sysfs. Everything here is optional hardware.

import { basename, dirname } from 'node:path'
import { counter, gauge, type Reading } from '../sample.ts'
import { listSys, type Roots, readSys, readSysNumber, resolveSys } from './files.ts'

export async function readThermal(roots: Roots): Promise<Reading[]> {
  const groups = await Promise.all([
    readZones(roots),
    readCooling(roots),
    readHwmon(roots),
    readCpuClocks(roots),
    readPowerSupplies(roots),
  ])
  return groups.flat()
}

async function readZones(roots: Roots): Promise<Reading[]> {
  const readings: Reading[] = []
  for (const zone of await listSys(roots, 'class/thermal', /^thermal_zone\d+$/)) {
    const temperature = await readSysNumber(roots, `class/thermal/${zone}/temp`)
    const type = (await readSys(roots, `class/thermal/${zone}/type`)) ?? ''
    const number = zone.slice('thermal_zone'.length)
    if (temperature !== undefined)
      readings.push(gauge('node_thermal_zone_temp', temperature / 1_000, { zone: number, type }))
  }
  return readings
}

async function readCooling(roots: Roots): Promise<Reading[]> {
  const readings: Reading[] = []
  for (const device of await listSys(roots, 'class/thermal', /^cooling_device\d+$/)) {
    const state = await readSysNumber(roots, `class/thermal/${device}/cur_state`)
    const type = (await readSys(roots, `class/thermal/${device}/type`)) ?? ''
    const name = device.slice('cooling_device'.length)
    if (state !== undefined) readings.push(gauge('node_cooling_device_cur_state', state, { name, type }))
  }
  return readings
}

const sensors: readonly { file: RegExp; name: string; divisor: number }[] = [
  { file: /^(temp\d+)_input$/, name: 'node_hwmon_temp_celsius', divisor: 1_000 },
  { file: /^(fan\d+)_input$/, name: 'node_hwmon_fan_rpm', divisor: 1 },
  { file: /^(in\d+)_input$/, name: 'node_hwmon_in_volts', divisor: 1_000 },
]

async function readHwmon(roots: Roots): Promise<Reading[]> {
  const readings: Reading[] = []
  for (const entry of await listSys(roots, 'class/hwmon', /^hwmon\d+$/)) {
    const folder = `class/hwmon/${entry}`
    const chip = await chipName(roots, folder, entry)
    for (const file of await listSys(roots, folder, /_input$/)) {
      const known = sensors.find(sensor => sensor.file.test(file))
      const sensor = known?.file.exec(file)?.[1]
      if (!known || sensor === undefined) continue
      const value = await readSysNumber(roots, `${folder}/${file}`)
      if (value !== undefined) readings.push(gauge(known.name, value / known.divisor, { chip, sensor }))
    }
  }
  return readings
}

/** node_exporter's rule, so that its dashboards match: the device's place on its bus, else the driver's name. */
async function chipName(roots: Roots, folder: string, entry: string): Promise<string> {
  const device = resolveSys(roots, `${folder}/device`)
  if (device !== undefined) {
    const parts = [cleanName(basename(dirname(device))), cleanName(basename(device))].filter(part => part !== '')
    if (parts.length > 0) return parts.join('_')
  }
  return cleanName((await readSys(roots, `${folder}/name`)) ?? '') || entry
}

function cleanName(name: string): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9:_]/g, '_')
    .replace(/^_+|_+$/g, '')
}

async function readCpuClocks(roots: Roots): Promise<Reading[]> {
  const readings: Reading[] = []
  for (const entry of await listSys(roots, 'devices/system/cpu', /^cpu\d+$/)) {
    const folder = `devices/system/cpu/${entry}`
    const kilohertz = await readSysNumber(roots, `${folder}/cpufreq/scaling_cur_freq`)
    if (kilohertz !== undefined)
      readings.push(gauge('node_cpu_scaling_frequency_hertz', kilohertz * 1_000, { cpu: entry.slice(3) }))
    const throttles = await readSysNumber(roots, `${folder}/thermal_throttle/core_throttle_count`)
    const core = await readSys(roots, `${folder}/topology/core_id`)
    const packageId = await readSys(roots, `${folder}/topology/physical_package_id`)
    // Hyper-threads of one core share its counter; the first stands for all of them.
    const labels = { core: core ?? '', package: packageId ?? '' }
    const isNew = !readings.some(r => r.labels.core === core && r.labels.package === packageId)
    if (throttles !== undefined && core !== undefined && isNew)
      readings.push(counter('node_cpu_core_throttles_total', throttles, labels))
  }
  return readings
}

async function readPowerSupplies(roots: Roots): Promise<Reading[]> {
  const readings: Reading[] = []
  for (const supply of await listSys(roots, 'class/power_supply', /./)) {
    const capacity = await readSysNumber(roots, `class/power_supply/${supply}/capacity`)
    if (capacity !== undefined) readings.push(gauge('node_power_supply_capacity', capacity, { power_supply: supply }))
  }
  return readings
}

export const thermalHelp = {
  node_thermal_zone_temp: 'Temperature of the zone in degrees Celsius.',
  node_cooling_device_cur_state: 'How hard the cooling device works, 0 to its own maximum.',
  node_hwmon_temp_celsius: 'Temperature of the sensor.',
  node_hwmon_fan_rpm: 'Turns of the fan a minute.',
  node_hwmon_in_volts: 'Voltage at the sensor.',
  node_cpu_scaling_frequency_hertz: 'Clock rate of the CPU.',
  node_cpu_core_throttles_total: 'Times the core was slowed down because of heat.',
  node_power_supply_capacity: 'Charge of the battery in percent.',
} as const
