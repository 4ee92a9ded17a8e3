-- One frame per tick; see frame.ts for the body and clock-epoch.ts for time.
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE series (
  id       INTEGER PRIMARY KEY,
  name     TEXT NOT NULL,
  labels   TEXT NOT NULL,             -- canonical JSON: names sorted
  kind     TEXT NOT NULL CHECK (kind IN ('c', 'g', 'u')),
  first_ms INTEGER NOT NULL,
  last_ms  INTEGER NOT NULL,
  UNIQUE (name, labels)
);

CREATE TABLE shape (
  id         INTEGER PRIMARY KEY,
  hash       BLOB NOT NULL UNIQUE,
  series_ids BLOB NOT NULL            -- ascending, delta varints
);

CREATE TABLE epoch (
  id            INTEGER PRIMARY KEY,
  boot_id       TEXT NOT NULL,
  offset_ms     INTEGER NOT NULL,     -- timestamp = mono_ms + offset_ms
  correction_ms INTEGER NOT NULL,     -- how much of the offset is repair
  trusted       INTEGER NOT NULL,
  frozen        INTEGER NOT NULL,     -- 1 once a sample of it was attempted: its offset never changes again
  first_seq     INTEGER NOT NULL,
  last_seq      INTEGER               -- NULL while it is the newest
);

CREATE TABLE frame (
  seq     INTEGER PRIMARY KEY,
  epoch   INTEGER NOT NULL,
  mono_ms INTEGER NOT NULL,
  shape   INTEGER NOT NULL,
  n       INTEGER NOT NULL,
  kind    INTEGER NOT NULL,           -- 0 dense, 1 thinned
  crc32   INTEGER NOT NULL,
  body    BLOB NOT NULL
);
CREATE INDEX frame_time ON frame (epoch, mono_ms);

-- Positions are seq * 65536 + ordinal; ranges are half-open and never touch.
CREATE TABLE delivered (
  output TEXT NOT NULL,
  lo     INTEGER NOT NULL,
  hi     INTEGER NOT NULL,
  PRIMARY KEY (output, lo)
) WITHOUT ROWID;

CREATE TABLE inflight (
  output      TEXT PRIMARY KEY,
  lo          INTEGER NOT NULL,
  hi          INTEGER NOT NULL,
  body_sha256 BLOB NOT NULL,
  attempts    INTEGER NOT NULL,
  first_ms    INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE loss (
  id      INTEGER PRIMARY KEY,
  from_ms INTEGER NOT NULL,
  to_ms   INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  series  INTEGER NOT NULL,
  bytes   INTEGER NOT NULL,
  reason  TEXT NOT NULL,
  kind    TEXT NOT NULL CHECK (kind IN ('lost', 'thinned')),
  output  TEXT NOT NULL
);
