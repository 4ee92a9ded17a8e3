// A database as older installations left it, with something in every table.

import bcrypt from 'bcryptjs'
import type { Sql } from '#platform/postgres'

export const legacyKey = 'kR3v9mPq7sT1uW5xY8zA2bC4dE6fG0hJkL-nM_oP3Q4='
export const legacyPassword = 'old but gold'

export async function makeLegacy(sql: Sql): Promise<void> {
  await sql.unsafe(`
    create table users (
      id bigserial primary key, email text not null unique, name text not null, avatar_url text,
      created_at timestamptz not null default now(), password_hash text, is_admin boolean not null default false);
    create table api_keys (
      id bigserial primary key, key text not null unique, name text not null, description text,
      created_at timestamptz not null default now(), is_active boolean not null default true,
      created_by_user_id bigint references users (id));
    create table logs (
      id bigserial, timestamp timestamptz not null, service text not null, level text not null, message text not null,
      metadata jsonb, created_at timestamptz not null default now());
    create index idx_logs_timestamp on logs (timestamp desc);
    create index idx_logs_service on logs (service);
    create index idx_logs_level on logs (level);
    create index idx_logs_timestamp_service on logs (timestamp desc, service);
    create index idx_logs_metadata on logs using gin (metadata);
    create table faults (
      id bigserial primary key, project_id bigint, error_class text not null, message text not null, location text,
      environment text not null default 'production', resolved boolean not null default false,
      ignored boolean not null default false, assignee_id bigint references users (id),
      tags text[] not null default '{}', public boolean not null default false,
      occurrence_count bigint not null default 0, first_seen_at timestamptz not null default now(),
      last_seen_at timestamptz not null default now(), created_at timestamptz not null default now(),
      updated_at timestamptz not null default now());
    create table notices (
      id text primary key, fault_id bigint not null references faults (id) on delete cascade, project_id bigint,
      message text not null, backtrace jsonb, context jsonb, params jsonb, session jsonb, cookies jsonb, environment jsonb,
      breadcrumbs jsonb, revision text, hostname text, created_at timestamptz not null default now());
    create index idx_notices_fault_id on notices (fault_id, created_at desc);
    create table fault_history (
      id bigserial primary key, fault_id bigint not null references faults (id) on delete cascade, action text not null,
      user_id bigint, revision text, created_at timestamptz not null default now());
    create table fault_comments (
      id bigserial primary key, fault_id bigint not null references faults (id) on delete cascade, user_id bigint not null,
      comment text not null, created_at timestamptz not null default now());
    insert into logs (timestamp, service, level, message, metadata)
    select now() - i * interval '1 minute', 'old', case i % 3 when 0 then 'ERROR' else 'INFO' end, 'old line ' || i,
           jsonb_build_object('i', i) from generate_series(1, 500) i;
    insert into faults (error_class, message, location, occurrence_count)
    values ('OldError', 'it broke', 'orders#create', 1), ('OldError', 'it broke again', 'orders#create', 1);
    insert into notices (id, fault_id, message) values ('01ARZ3NDEKTSV4RRFFQ69G5FAV', 1, 'it broke');
  `)
  const hash = await bcrypt.hash(legacyPassword, 4)
  await sql`insert into users (email, name, password_hash, is_admin) values ('Old@Example.org', 'Old', ${hash}, true)`
  await sql`
    insert into api_keys (key, name, description, is_active, created_by_user_id)
    values (${legacyKey}, 'old app', 'from before', true, 1), ('withdrawn', 'gone', null, false, null)`
}

/** Columns, indexes, constraints and kinds of everything in schema public, as text to compare. */
export async function definitionsOf(sql: Sql): Promise<string[]> {
  const rows = await sql<{ line: string }[]>`
    select format('%s.%s %s %s %s', table_name, column_name, data_type, is_nullable, column_default) as line
    from information_schema.columns where table_schema = 'public'
    union all select indexdef from pg_indexes where schemaname = 'public'
    union all select format('%s %s', conrelid::regclass, pg_get_constraintdef(oid)) from pg_constraint
              where connamespace = 'public'::regnamespace
    union all select format('%s %s', relname, relkind) from pg_class where relnamespace = 'public'::regnamespace
    order by 1`
  return rows.map(row => row.line)
}
