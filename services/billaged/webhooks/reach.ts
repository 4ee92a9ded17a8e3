import { type DeniedNetworks, deniedNetworks } from '#platform/network'

// Where webhooks may go. An operator's receivers often lie in the networks that the service itself is in; an address that
// a tenant gave must not lead there, since it would make us knock at doors that trust us.

/** Addresses that are not of the internet: this machine, private and shared networks, links, groups. */
const privateNetworks = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '127.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.0.0.0/24'],
  ...['192.168.0.0/16', '198.18.0.0/15', '224.0.0.0/4', '240.0.0.0/4'],
  ...['::/128', '::1/128', 'fc00::/7', 'fe80::/10', 'ff00::/8'],
]

export interface Reach {
  ofOperators: DeniedNetworks
  ofTenants: DeniedNetworks
}

/** `deny` holds for everybody; `allow` opens private networks to the endpoints of tenants. */
export function createReach(o: { deny: readonly string[]; allow: readonly string[] }): Reach {
  const [denied, inner, allowed] = [o.deny, privateNetworks, o.allow].map(deniedNetworks)
  if (denied === undefined || inner === undefined || allowed === undefined) throw new Error('BUG: three lists')
  return {
    ofOperators: denied,
    ofTenants: {
      has: address => denied.has(address) || (inner.has(address) && !allowed.has(address)),
      reason: address =>
        denied.has(address)
          ? 'WEBHOOK_DENY forbids it'
          : 'a tenant’s webhook may not reach private networks; WEBHOOK_ALLOW opens them',
    },
  }
}
