/** Entries of this tenant carry no mark in the guide's table. */
export const defaultTenant = 'public'
