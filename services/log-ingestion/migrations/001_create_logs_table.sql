-- The table of the guide: a hypertable with one-day chunks when TimescaleDB is there, daily partitions when not.
--
-- Safe to run with psql before the service, after it, and again: a table that exists is left exactly as it is, and
-- nothing is ever dropped. Partitions are made by the service, before the first entry of their day and two days ahead.
--
-- Indexes of a new table: `fast` unless the session says otherwise with
--   SELECT set_config('purser.index_profile', 'compat', false);
-- `compat` is the five indexes of older installations; they cost most of the write path, GIN above all.

-- The image of TimescaleDB loads the library and leaves the extension to whoever mounts files over its own.
DO $$
BEGIN
  IF to_regclass('public.logs') IS NULL AND current_setting('shared_preload_libraries') LIKE '%timescaledb%'
     AND EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb' AND installed_version IS NULL) THEN
    CREATE EXTENSION IF NOT EXISTS timescaledb;
  END IF;
EXCEPTION WHEN insufficient_privilege THEN
  RAISE NOTICE 'TimescaleDB is loaded and % may not enable it here; logs gets daily partitions instead', current_user;
END
$$;

DO $$
DECLARE
  profile text := coalesce(nullif(current_setting('purser.index_profile', true), ''), 'fast');
  has_timescale boolean := EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb');
  -- Older entries share one partition: a sender with a broken clock must not make thousands of them.
  first_day date := (now() AT TIME ZONE 'UTC')::date - 366;
BEGIN
  IF to_regclass('public.logs') IS NOT NULL THEN
    RAISE NOTICE 'public.logs exists; left as it is';
    RETURN;
  END IF;
  IF NOT has_schema_privilege('public', 'CREATE') THEN
    RAISE insufficient_privilege USING
      MESSAGE = format('role %I may not create tables in schema public', current_user),
      HINT = format('From PostgreSQL 15 on, rights on the database do not include this. As postgres, run this file, or GRANT USAGE, CREATE ON SCHEMA public TO %I.', current_user);
  END IF;

  EXECUTE 'CREATE TABLE IF NOT EXISTS public.logs (
    id BIGSERIAL,
    timestamp TIMESTAMPTZ NOT NULL,
    service TEXT NOT NULL,
    level TEXT NOT NULL,
    message TEXT NOT NULL,
    metadata JSONB,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
  )' || CASE WHEN has_timescale THEN '' ELSE ' PARTITION BY RANGE (timestamp)' END;

  IF has_timescale THEN
    PERFORM create_hypertable('public.logs', 'timestamp', chunk_time_interval => INTERVAL '1 day',
      create_default_indexes => false, if_not_exists => true);
  ELSE
    EXECUTE format('CREATE TABLE IF NOT EXISTS public.logs_p_before_%s PARTITION OF public.logs FOR VALUES FROM (MINVALUE) TO (%L)',
      to_char(first_day, 'YYYYMMDD'), first_day::text || ' 00:00:00+00');
  END IF;

  -- By this the service knows a table that it may set TimescaleDB's policies on. A table found never gets one.
  COMMENT ON TABLE public.logs IS 'Made by log-ingestion: migrations/001_create_logs_table.sql';

  IF profile = 'compat' THEN
    CREATE INDEX IF NOT EXISTS idx_logs_timestamp ON public.logs (timestamp DESC);
    CREATE INDEX IF NOT EXISTS idx_logs_service ON public.logs (service);
    CREATE INDEX IF NOT EXISTS idx_logs_level ON public.logs (level);
    CREATE INDEX IF NOT EXISTS idx_logs_timestamp_service ON public.logs (timestamp DESC, service);
    CREATE INDEX IF NOT EXISTS idx_logs_metadata ON public.logs USING GIN (metadata);
  ELSE
    ALTER TABLE public.logs ADD PRIMARY KEY (id, timestamp);
    CREATE INDEX IF NOT EXISTS logs_timestamp_brin ON public.logs USING BRIN (timestamp);
    CREATE INDEX IF NOT EXISTS logs_service_timestamp ON public.logs (service, timestamp DESC);
  END IF;

  -- Where the licence allows. Older versions cannot take late entries into what is compressed.
  IF has_timescale AND coalesce(current_setting('timescaledb.license', true), 'apache') <> 'apache'
     AND (SELECT string_to_array(substring(extversion FROM '^[0-9]+[.][0-9]+'), '.')::int[] >= ARRAY[2, 14]
          FROM pg_extension WHERE extname = 'timescaledb') THEN
    ALTER TABLE public.logs SET (timescaledb.compress, timescaledb.compress_segmentby = 'service',
                                 timescaledb.compress_orderby = 'timestamp DESC, id DESC');
    PERFORM add_compression_policy('public.logs', INTERVAL '2 days');
  END IF;
END
$$;

-- The guide runs this file as postgres and the service as log_ingestion: hand the table over when we may.
DO $$
DECLARE
  part regclass;
  is_native boolean := EXISTS (SELECT FROM pg_class WHERE oid = 'public.logs'::regclass AND relkind = 'p');
BEGIN
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'log_ingestion') AND pg_has_role(current_user, 'log_ingestion', 'MEMBER')
     AND pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = 'public.logs'::regclass), 'MEMBER') THEN
    -- TimescaleDB hands over its chunks by itself.
    FOR part IN SELECT inhrelid::regclass FROM pg_inherits WHERE is_native AND inhparent = 'public.logs'::regclass LOOP
      EXECUTE format('ALTER TABLE %s OWNER TO log_ingestion', part);
    END LOOP;
    -- Its sequence follows. CREATE on the schema is what making partitions needs.
    ALTER TABLE public.logs OWNER TO log_ingestion;
    IF has_schema_privilege('public', 'CREATE WITH GRANT OPTION') THEN
      GRANT USAGE, CREATE ON SCHEMA public TO log_ingestion;
    END IF;
  END IF;
END
$$;
