// USER of an image: names and numbers resolved through the image's own passwd and group files at build time, so that
// the guest's init needs no name service.

import { invalidSource } from '../errors.ts'

export interface Account {
  uid: number
  gid: number
  /** Supplementary groups, ascending. */
  groups: readonly number[]
}

const idMax = 2 ** 32 - 2

/** @param user as images write it: "", "name", "uid", "name:group", "uid:gid" */
export function resolveUser(user: string, passwd: string, group: string): Account {
  if (user === '') return { uid: 0, gid: 0, groups: [] }
  const [name = '', groupName, ...more] = user.split(':')
  if (more.length > 0 || name === '')
    throw invalidSource(`The image's user ${JSON.stringify(user)} is not user[:group].`)
  const account = readPasswd(passwd).find(a => a.name === name || String(a.uid) === name)
  const uid = account?.uid ?? numericId(name)
  if (uid === undefined)
    throw invalidSource(`The image runs as user ${JSON.stringify(name)}, which its /etc/passwd does not have.`)
  const groups = readGroup(group)
  if (groupName !== undefined && groupName !== '') {
    const gid = groups.find(g => g.name === groupName || String(g.gid) === groupName)?.gid ?? numericId(groupName)
    if (gid === undefined)
      throw invalidSource(`The image runs with group ${JSON.stringify(groupName)}, which its /etc/group does not have.`)
    return { uid, gid, groups: [] }
  }
  const member = account ? groups.filter(g => g.members.includes(account.name)).map(g => g.gid) : []
  const gid = account?.gid ?? 0
  return { uid, gid, groups: [...new Set(member)].filter(g => g !== gid).sort((a, b) => a - b) }
}

function numericId(text: string): number | undefined {
  return /^[0-9]{1,10}$/.test(text) && Number(text) <= idMax ? Number(text) : undefined
}

function readPasswd(text: string) {
  return text.split('\n').flatMap(line => {
    const [name = '', , uid = '', gid = ''] = line.split(':')
    const ids = { uid: numericId(uid), gid: numericId(gid) }
    return name !== '' && ids.uid !== undefined && ids.gid !== undefined ? [{ name, uid: ids.uid, gid: ids.gid }] : []
  })
}

function readGroup(text: string) {
  return text.split('\n').flatMap(line => {
    const [name = '', , gid = '', members = ''] = line.split(':')
    const id = numericId(gid)
    return name !== '' && id !== undefined ? [{ name, gid: id, members: members.split(',') }] : []
  })
}
