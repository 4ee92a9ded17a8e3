// systemd's readiness protocol (sd_notify(3)): datagrams on the unix socket that NOTIFY_SOCKET names.
//
// Node has no unix datagram sockets, and a spawned helper is refused under NotifyAccess=main because only the main
// process may speak. So we call socket(2) and sendto(2) ourselves; messages are a few bytes, a few times a minute.

export interface SdNotify {
  /** States such as `READY=1`, `STATUS=listening`. Never throws: a deaf service manager must not stop the service. */
  send(...states: string[]): void
  /** How often `WATCHDOG=1` is due, half the period systemd asked for; undefined without a watchdog. */
  watchdogEveryMs: number | undefined
}

const AF_UNIX = 1
const SOCK_DGRAM = 2
const SOCK_CLOEXEC = 0o2000000

export async function openSdNotify(env: Readonly<Record<string, string | undefined>>, pid: number): Promise<SdNotify> {
  const path = env.NOTIFY_SOCKET
  if (!path || process.platform !== 'linux') return { send() {}, watchdogEveryMs: undefined }
  const address = socketAddress(path)
  const { dlopen, types } = await import('node:ffi')
  const { functions: libc } = dlopen(null, {
    socket: { arguments: [types.INT_32, types.INT_32, types.INT_32], return: types.INT_32 },
    sendto: {
      arguments: [types.INT_32, types.BUFFER, types.UINT_64, types.INT_32, types.BUFFER, types.UINT_32],
      return: types.INT_64,
    },
  })
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)
  const watchdogUsec = Number(env.WATCHDOG_USEC ?? 0)
  const isOurs = env.WATCHDOG_PID === undefined || Number(env.WATCHDOG_PID) === pid
  return {
    send(...states) {
      const message = Buffer.from(states.join('\n'))
      libc.sendto(fd, message, BigInt(message.length), 0, address, address.length)
    },
    watchdogEveryMs: watchdogUsec > 0 && isOurs ? watchdogUsec / 2_000 : undefined,
  }
}

/** struct sockaddr_un: family, then the path; a leading `@` stands for the NUL of an abstract name. */
function socketAddress(path: string): Buffer {
  const name = Buffer.from(path.startsWith('@') ? `\0${path.slice(1)}` : `${path}\0`)
  if (name.length > 108) throw new Error(`NOTIFY_SOCKET is longer than a unix socket path may be: ${path}`)
  const family = Buffer.alloc(2)
  family.writeUInt16LE(AF_UNIX)
  return Buffer.concat([family, name])
}
